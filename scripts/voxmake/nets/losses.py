"""Losses of adversarial training of waveforms, and the mel spectrogram that they and the measures share.

Sources: least squares (Mao et al. 2017, arXiv 1611.04076), feature matching (Larsen et al. 2016; MelGAN, arXiv
1910.06711), weights 45, 2 and 1 for mel, features and adversary (HiFi-GAN, arXiv 2010.05646).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEL_WEIGHT, FEATURE_WEIGHT = 45.0, 2.0


class LogMel(nn.Module):
    """HiFi-GAN's log-mel spectrogram: magnitudes, Slaney's bands, natural logarithm, nothing below 1e-5.

    Called with waves [B, T] or [B, 1, T]; gives [B, bands, T // hop]. Computes in float32 whatever autocast says.

    Args:
        rate_hz: of the waves.
        fft, hop, window: in samples. The wave is reflected by (fft - hop) / 2 at both ends, so frames and hops
            are as many.
        bands: how many.
        low_hz, high_hz: their range; `high_hz` None is half the rate.
        floor: of a band's magnitude, before the logarithm.
    """

    def __init__(
        self,
        rate_hz: int,
        fft: int = 1024,
        hop: int = 256,
        window: int | None = None,
        bands: int = 80,
        low_hz: float = 0.0,
        high_hz: float | None = None,
        floor: float = 1e-5,
    ):
        super().__init__()
        from librosa.filters import mel

        self.fft, self.hop, self.window, self.floor = fft, hop, window or fft, floor
        matrix = mel(sr=rate_hz, n_fft=fft, n_mels=bands, fmin=low_hz, fmax=high_hz)
        self.register_buffer("bank", torch.from_numpy(matrix), persistent=False)
        self.register_buffer("hann", torch.hann_window(self.window), persistent=False)

    def magnitudes(self, wave: Tensor) -> Tensor:
        """Linear spectrogram [B, fft // 2 + 1, T // hop]."""
        x = wave.reshape(-1, wave.shape[-1]).float()
        margin = self.fft - self.hop
        x = F.pad(x[:, None], (margin // 2, margin - margin // 2), "reflect")[:, 0]
        spectrum = torch.stft(x, self.fft, self.hop, self.window, self.hann, center=False, return_complex=True)
        # The square root of 0 has no slope: the small term is HiFi-GAN's.
        return torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-9)

    def bands_of(self, magnitudes: Tensor) -> Tensor:
        """Log-mel [B, bands, frames] of a linear spectrogram."""
        return torch.log(torch.clamp(self.bank @ magnitudes, min=self.floor))

    def forward(self, wave: Tensor) -> Tensor:
        with torch.autocast(wave.device.type, enabled=False):
            return self.bands_of(self.magnitudes(wave))


def mel_l1(log_mel: LogMel | Sequence[LogMel], fake: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of log-mel spectrograms, over all resolutions given."""
    several = [log_mel] if isinstance(log_mel, LogMel) else log_mel
    return torch.stack([F.l1_loss(mel(fake), mel(real)) for mel in several]).mean()


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Least squares, summed over the parts: logits of real waves to 1, of generated ones to 0.

    Divide by len(real) to compare discriminators of different size: 0.5 is a part that can't tell, 0 one that has won.
    """
    return torch.stack(
        [
            (1 - one.float()).square().mean() + other.float().square().mean()
            for one, other in zip(real, fake, strict=True)
        ]
    ).sum()


def generator_loss(fake: Sequence[Tensor]) -> Tensor:
    """Least squares, summed over the parts: logits of generated waves to 1."""
    return torch.stack([(1 - logits.float()).square().mean() for logits in fake]).sum()


def feature_matching(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean absolute difference of each layer's activations, summed over layers and parts; no weight.

    The real side takes no gradient. The logits' own layer counts, as in HiFi-GAN.
    """
    return torch.stack(
        [
            F.l1_loss(other.float(), one.detach().float())
            for ones, others in zip(real, fake, strict=True)
            for one, other in zip(ones, others, strict=True)
        ]
    ).sum()
