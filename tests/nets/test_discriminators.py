"""Discriminators and losses: shapes, sizes of the papers, and that they do what they are for."""

import math

import pytest
import torch

from voxmake.nets.discriminators import (
    Discriminators,
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
    MultiScaleDiscriminator,
)
from voxmake.nets.losses import LogMel, discriminator_loss, feature_matching, generator_loss, mel_l1

KINDS = [MultiPeriodDiscriminator, MultiScaleDiscriminator, MultiResolutionDiscriminator]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [3200, 3217])
def test_shapes(kind, samples):
    parts = kind(width=1 / 16)
    logits, features = parts(torch.randn(2, 1, samples))
    assert len(logits) == len(features) == len(parts.discriminators)
    for own, layers in zip(logits, features, strict=True):
        assert own.shape[0] == 2 and own.ndim == 2
        assert torch.equal(layers[-1].flatten(1), own)
        assert all(torch.isfinite(layer).all() and layer.shape[0] == 2 for layer in layers)


def parameters(module):
    """As without normalisation: weight norm keeps a length of each output channel beside its direction."""
    return sum(p.numel() for name, p in module.named_parameters() if not name.endswith("original0"))


def test_full_width_has_the_papers_sizes():
    """Counts of convolutions written out in the papers' tables: channels and kernels, with biases."""
    period = 32 * 5 + 32 + 128 * 32 * 5 + 128 + 512 * 128 * 5 + 512 + 1024 * 512 * 5 + 1024 + 1024 * 1024 * 5 + 1024
    assert parameters(MultiPeriodDiscriminator()) == 5 * (period + 1024 * 3 + 1)
    vits = MultiScaleDiscriminator(1, "melgan", spectral_first=False)
    assert [conv.groups for conv in vits.discriminators[0].convs] == [1, 4, 16, 64, 256, 1]
    assert [conv.groups for conv in MultiScaleDiscriminator().discriminators[0].convs] == [1, 4, 16, 16, 16, 16, 1]


def test_periods_see_every_pth_sample():
    """The first layer has no width along the period: what changes in one column stays there."""
    part = MultiPeriodDiscriminator((5,), width=1 / 16)
    wave = torch.randn(1, 1, 1000)
    other = wave.clone()
    other[..., 2::5] += 1
    _, [one] = part(wave)
    _, [two] = part(other)
    for before, after in zip(one, two, strict=True):
        assert torch.equal(before[..., [0, 1, 3, 4]], after[..., [0, 1, 3, 4]])
        assert not torch.equal(before[..., 2], after[..., 2])


def test_a_discriminator_learns_to_tell_tones_from_noise():
    torch.manual_seed(0)
    small = (MultiPeriodDiscriminator((2, 5), 1 / 32), MultiScaleDiscriminator(1, width=1 / 32))
    parts = Discriminators([*small, MultiResolutionDiscriminator((256,), 1 / 32)])
    optimiser = torch.optim.AdamW(parts.parameters(), 5e-3)
    time = torch.arange(1280) / 16000

    def batch():
        pitch = 100 + 100 * torch.rand(2, 1, 1)
        return torch.sin(2 * math.pi * pitch * time) * 0.3, torch.randn(2, 1, 1280) * 0.2

    for _ in range(40):
        tones, noise = batch()
        (real, _), (fake, _) = parts(tones), parts(noise)
        loss = discriminator_loss(real, fake)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        tones, noise = batch()
        (real, real_features), (fake, fake_features) = parts(tones), parts(noise)
        assert discriminator_loss(real, fake) / len(real) < 0.25  # 0.5 can't tell
        assert generator_loss(real) < generator_loss(fake)
        assert feature_matching(real_features, real_features) == 0 < feature_matching(real_features, fake_features)


def test_losses_by_hand():
    ones, zeros = [torch.ones(2, 3), torch.ones(2, 5)], [torch.zeros(2, 3), torch.zeros(2, 5)]
    assert discriminator_loss(ones, zeros) == 0
    assert discriminator_loss(zeros, ones) == 4
    assert generator_loss(zeros) == 2 and generator_loss(ones) == 0
    assert feature_matching([ones], [zeros]) == 2


def test_log_mel():
    mel = LogMel(16000, 1024, 320, bands=80, high_hz=8000)
    assert mel(torch.zeros(2, 1, 3200)).shape == (2, 80, 10)
    assert torch.allclose(mel(torch.zeros(2, 3200)), torch.tensor(math.log(1e-5)), atol=1)
    # A tone is in its band, ten times the amplitude is ln 10 more there.
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(6400) / 16000) * 0.05
    quiet, loud = mel(tone[None])[0, :, 8], mel(10 * tone[None])[0, :, 8]
    band = int(quiet.argmax())
    assert float(mel.bank[band].argmax()) * 16000 / 1024 == pytest.approx(1000, abs=40)
    assert float(loud[band] - quiet[band]) == pytest.approx(math.log(10), abs=1e-3)
    assert mel_l1(mel, tone[None], tone[None]) == 0
    fake = (10 * tone[None]).requires_grad_()
    mel_l1([mel, LogMel(16000, 512, 128, bands=40)], fake, tone[None]).backward()
    assert torch.isfinite(fake.grad).all() and fake.grad.abs().sum() > 0
