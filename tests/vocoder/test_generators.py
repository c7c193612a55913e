"""Generators: exact lengths, chunks equal to the whole, and what a sample depends on."""

import numpy as np
import pytest
import torch

from voxmake.errors import BadInput
from voxmake.vocoder.generators import Generator
from voxmake.vocoder.model import Facts, Vocoder, write_vocoder
from voxmake.vocoder.spec import VocoderSpec

KINDS = {
    "vocos": VocoderSpec(generator="vocos", dim=16, layers=3, front_layers=1, embedding=8),
    "hifigan": VocoderSpec(generator="hifigan", dim=16, layers=2, front_layers=1, embedding=8, upsample_channels=32),
}
INPUTS = VocoderSpec(dim=16, layers=2, front_layers=1, embedding=8, f0=True, speakers=True)


def saved(folder, spec, speakers=()):
    torch.manual_seed(1)
    facts = Facts("a" * 64, 20, 320, list(speakers), spec)
    write_vocoder(folder, "vocoder_final", facts, facts.generator().state_dict())
    return Vocoder(folder)


def pitch_at(log_f0, frames=20):
    hz = 150 * np.exp(log_f0)
    return np.float32([[log_f0, 1, frame * 320 * hz / 16000 % 1] for frame in range(frames)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 7, 64])
def test_a_unit_is_320_samples(kind, frames):
    model = Generator(20, 0, 320, KINDS[kind])
    wave, mel = model(torch.randint(0, 20, (2, frames)))
    assert wave.shape == (2, 1, frames * 320) and mel.shape == (2, 80, frames)
    assert torch.isfinite(wave).all()


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_are_the_whole(tmp_path, kind):
    vocoder = saved(tmp_path, KINDS[kind])
    units = np.random.default_rng(0).integers(0, 20, 237)
    whole = vocoder.speak(units, "a" * 64)
    assert whole.shape == (237 * 320,) and np.abs(whole).max() > 1e-4
    for chunk in (10, 50, 237):
        pieces = list(vocoder.stream(units, "a" * 64, chunk))
        assert len(pieces) == -(-237 // chunk)
        assert np.allclose(np.concatenate(pieces), whole, atol=1e-6 + 1e-5 * np.abs(whole).max())


@pytest.mark.parametrize("kind", KINDS)
def test_the_context_is_what_a_sample_depends_on(kind):
    """Gradients of one unit's samples reach no further, and nearly as far."""
    torch.manual_seed(0)
    model = Generator(20, 0, 320, KINDS[kind])
    held = {}
    model.front.units.register_forward_hook(lambda module, args, out: held.update(x=out) or out.retain_grad())
    wave, _ = model(torch.randint(0, 20, (1, 121)))
    wave[..., 60 * 320 : 61 * 320].square().sum().backward()
    reached = torch.nonzero(held["x"].grad[0].abs().sum(1)).flatten()
    far = int((reached - 60).abs().max())
    assert model.context - 3 <= far <= model.context


def test_speakers_and_pitch_are_inputs(tmp_path):
    vocoder = saved(tmp_path, INPUTS, ["ann", "ben"])
    units = np.arange(20)
    low, high = (pitch_at(value) for value in (-0.4, 0.4))
    ann = vocoder.speak(units, "a" * 64, "ann", low)
    assert not np.allclose(ann, vocoder.speak(units, "a" * 64, "ben", low))
    assert not np.allclose(ann, vocoder.speak(units, "a" * 64, "ann", high))
    pieces = vocoder.stream(units, "a" * 64, 7, "ann", low)
    assert np.allclose(np.concatenate(list(pieces)), ann, atol=1e-5)
    with pytest.raises(BadInput, match="knows no speaker 'eve'; there are ann, ben"):
        vocoder.speak(units, "a" * 64, "eve", low)
    with pytest.raises(BadInput, match="needs it to speak"):
        vocoder.speak(units, "a" * 64, "ann")


def test_pulses_have_the_period_that_was_asked_for():
    """Phases of an impulse train: put together with flat magnitudes they are pulses, as many samples apart."""
    body = Generator(20, 0, 320, INPUTS.model_copy(update={"speakers": False})).body
    for log_f0 in (-0.5, 0.0, 0.6):
        pitch = torch.from_numpy(pitch_at(log_f0, 60).T.copy())[None]
        phase = body._pulse_phase(pitch)
        assert phase.shape == (1, 641, 60)
        wave = body._overlap(torch.polar(torch.ones_like(phase), phase))[0, 0, 3200:16000]
        product = torch.fft.irfft(torch.fft.rfft(wave, 32768).abs() ** 2)[:400]
        period = 16000 / (150 * np.exp(log_f0))
        assert abs(int(product[50:].argmax()) + 50 - period * round((int(product[50:].argmax()) + 50) / period)) < 1.5
        silent = pitch.clone()
        silent[:, 1] = 0
        assert not body._pulse_phase(silent).any()


def test_units_of_another_tokeniser_are_refused(tmp_path):
    vocoder = saved(tmp_path, KINDS["vocos"])
    for speak in (vocoder.speak, lambda *args: list(vocoder.stream(*args))):
        with pytest.raises(
            BadInput, match=r"units of tokeniser bbbbbbbbbbbb, but .* speaks those of aaaaaaaaaaaa only"
        ):
            speak(np.arange(20), "b" * 64)
    with pytest.raises(BadInput, match="give the folder of a run of train_vocoder"):
        Vocoder(tmp_path / "nothing")
