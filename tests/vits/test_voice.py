"""Voices in MMS's format: loaded, given characters, spoken, exported; and what training does to each part."""

import json

import numpy as np
import pytest
import soundfile
import torch
from conftest import voice as buzz

from voxmake.errors import ConfigError
from voxmake.vits import batches, objective, voice
from voxmake.vits.export import export_onnx
from voxmake.vits.speak import OnnxVoice

TINY = {
    "hidden_size": 16, "num_hidden_layers": 1, "ffn_dim": 32, "flow_size": 16, "upsample_initial_channel": 16,
    "posterior_encoder_num_wavenet_layers": 2, "prior_encoder_num_wavenet_layers": 2, "prior_encoder_num_flows": 2,
    "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]], "duration_predictor_num_flows": 2,
    "duration_predictor_filter_channels": 16, "spectrogram_bins": 513,
}  # fmt: skip


def tiny(texts=("abc def", "fed"), speakers=1, stochastic=True):
    torch.manual_seed(1)
    return voice.new_voice("tiny", texts, "en", 16000, speakers, stochastic, **TINY)


def mms_checkpoint(folder, uroman=False):
    """Random weights as facebook/mms-tts-* are laid out: <unk> beside the vocabulary, a letter as the pad."""
    from transformers import VitsConfig, VitsModel, VitsTokenizer

    torch.manual_seed(2)
    folder.mkdir(parents=True)
    vocabulary = {character: number for number, character in enumerate("k'zyuafe_xo-c nmhdlgpvwjirtbsq")}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = VitsTokenizer(
        str(folder / "vocab.json"), pad_token="k", unk_token="<unk>", language="eng", phonemize=False, is_uroman=uroman
    )
    assert tokenizer.unk_token_id == len(vocabulary), "as in MMS: not in vocab.json"
    VitsModel(VitsConfig(vocab_size=len(vocabulary), **TINY)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def batch_of(tmp_path, tokenizer, count=2):
    clips = []
    for number in range(count):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, buzz(0.7 + 0.1 * number, seed=number), 16000, subtype="PCM_16")
        tokens = tuple(voice.tokens_of(tokenizer, ("abc def", "fed")[number % 2]))
        clips.append(batches.Clip(str(number), path, "", tokens, soundfile.info(path).frames, number % 2))
    return batches.load_batch(clips, 256)


@pytest.mark.parametrize(("speakers", "stochastic"), [(1, True), (2, True), (1, False)])
def test_every_part_learns(tmp_path, speakers, stochastic):
    model, tokenizer = tiny(speakers=speakers, stochastic=stochastic)
    voice.apply_weight_norm(model)
    model.train()
    batch = batch_of(tmp_path, tokenizer)
    optimiser = torch.optim.SGD(model.parameters(), 1e-3)
    for _ in range(3):  # flows begin as nothing: what lies before their last layer learns from the second step on
        optimiser.zero_grad()
        made = objective.forward(model, batch, 4096)
        assert made.fake.shape == made.real.shape == (2, 1, 4096)
        ((made.fake - made.real).abs().mean() + made.kl + made.duration).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    silent = [name for name, part in model.named_parameters() if part.grad is None or not part.grad.abs().sum() > 0]
    # The bias of the keys shifts all logits of a softmax alike: it has no effect at all.
    assert [name for name in silent if not name.endswith("k_proj.bias")] == []


def test_the_real_segment_is_a_piece_of_the_recording(tmp_path):
    model, tokenizer = tiny()
    batch = batch_of(tmp_path, tokenizer)
    made = objective.forward(model, batch, 4096)
    for wave, piece in zip(batch["wave"], made.real, strict=True):
        windows = wave.unfold(0, 4096, 256)
        assert (windows == piece[0]).all(1).any()


def test_loading_says_what_is_wrong(tmp_path):
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        voice.load_voice(tmp_path)
    folder = mms_checkpoint(tmp_path / "base")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="no pickled weights"):
        voice.load_voice(folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match="no VITS model"):
        voice.load_voice(folder)


def test_characters_are_added_and_spoken(tmp_path):
    model, tokenizer = voice.load_voice(mms_checkpoint(tmp_path / "base"))
    text = "Grüße, zwölf Äpfel!"
    lacking = voice.unknown_characters(tokenizer, voice.spelled(tokenizer, text))
    assert lacking == set("üßöä,!")
    old = model.text_encoder.embed_tokens.weight.detach().clone()
    before = voice.tokens_of(tokenizer, text)
    extended = voice.add_characters(model, tokenizer, lacking)
    assert not voice.unknown_characters(extended, voice.spelled(extended, text))
    ids = voice.tokens_of(extended, text)
    assert len(ids) == 2 * len(text) + 1 and len(before) < len(ids)
    assert max(ids) < model.config.vocab_size == model.text_encoder.embed_tokens.num_embeddings
    torch.testing.assert_close(model.text_encoder.embed_tokens.weight[: len(old)], old)
    assert len(set(extended.encoder.values())) == len(extended.encoder), "two tokens have one id"

    voice.save_voice(model, extended, tmp_path / "saved")
    again, tokens = voice.load_voice(tmp_path / "saved")
    assert voice.tokens_of(tokens, text) == ids
    assert tokens.unk_token_id == extended.encoder["<unk>"]
    with torch.no_grad():
        wave = again.eval()(input_ids=torch.tensor([ids])).waveform
    assert wave.shape[1] % 256 == 0 and torch.isfinite(wave).all()


def test_the_tokenizers_own_pipeline_agrees(tmp_path):
    """What training reads is what pipeline() will read."""
    _, tokenizer = voice.load_voice(mms_checkpoint(tmp_path / "base"))
    for text in ("Hello, World!", " spaced ", "it's"):
        assert voice.tokens_of(tokenizer, text) == tokenizer(text).input_ids
    assert voice.tokens_of(tokenizer, "!?") == []


def test_uroman_where_the_tokenizer_asks(tmp_path):
    _, tokenizer = voice.load_voice(mms_checkpoint(tmp_path / "base", uroman=True))
    assert voice.spelled(tokenizer, "Привет") == "privet"
    assert voice.tokens_of(tokenizer, "Привет") == tokenizer("Привет").input_ids


def test_the_decoder_sounds_the_same_without_weight_norm(tmp_path):
    model, tokenizer = tiny()
    voice.apply_weight_norm(model)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.add_(0.01)
    plain = voice.plain_copy(model)
    latents = torch.randn(1, 16, 20)
    torch.testing.assert_close(plain.decoder(latents), model.eval().decoder(latents))
    voice.save_voice(plain, tokenizer, tmp_path / "saved")
    loaded, _ = voice.load_voice(tmp_path / "saved")
    torch.testing.assert_close(loaded.eval().decoder(latents), plain.decoder(latents))
    assert model.decoder.upsampler[0].weight is not None, "the trained one still works"


@pytest.mark.parametrize("speakers", [1, 3])
def test_onnx_equals_the_model_and_is_complete(tmp_path, speakers):
    model, tokenizer = tiny(speakers=speakers)
    export_onnx(model.eval(), tokenizer, tmp_path / "model.onnx", "en")
    spoken = OnnxVoice(tmp_path / "model.onnx")
    assert spoken.facts["sample_rate"] == "16000" and spoken.facts["model_type"] == "vits"
    assert int(spoken.facts["n_speakers"]) == speakers and spoken.facts["add_blank"] == "1"
    text = "abc fed abc"
    assert spoken.ids(text) == voice.tokens_of(tokenizer, text)
    for length in (1, 3, 24, 200):  # shorter and longer than the attention's window and than the traced sentence
        ids = [0, *[2, 0] * length]
        # Without noise both give one answer.
        feed = {"x": np.array([ids]), "x_length": np.array([len(ids)])} | (
            {"sid": np.array([2])} if speakers > 1 else {}
        )
        feed |= {"noise_scale": np.zeros(1, np.float32), "noise_scale_w": np.zeros(1, np.float32)}
        made = spoken.session.run(None, feed | {"length_scale": np.ones(1, np.float32)})[0]
        model.noise_scale = model.noise_scale_duration = 0.0
        with torch.no_grad():
            speaker = 2 if speakers > 1 else None
            expected = model(input_ids=torch.tensor([ids]), speaker_id=speaker).waveform
        assert made.shape == (1, 1, expected.shape[1])
        np.testing.assert_allclose(made[0], expected.numpy(), atol=1e-4)


def test_batches_are_of_like_length_and_complete():
    rng = np.random.default_rng(0)
    clips = [
        batches.Clip(f"{n:03}", None, "", (), int(size), 0) for n, size in enumerate(rng.integers(8192, 200000, 100))
    ]
    first, again, other = (batches.epoch_batches(clips, 8, 1, epoch) for epoch in (0, 0, 1))
    assert first == again != other
    assert sorted(clip.id for batch in first for clip in batch) == [clip.id for clip in clips]
    plain = [clips[at : at + 8] for at in range(0, 100, 8)]
    assert batches.padding_ratio(first) < 0.3 * batches.padding_ratio(plain)
