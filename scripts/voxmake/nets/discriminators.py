"""Discriminators of waveforms: what a generator is trained against.

Each is called with waves [B, 1, T] and returns (logits, features): of each of its parts the logits [B, N], and the
activations of its layers, the logits' own layer last. `Discriminators` joins several into one of the same shape.

Sources: periods and scales are HiFi-GAN's (Kong et al. 2020, arXiv 2010.05646), VITS takes one scale (Kim et al. 2021,
arXiv 2106.06103) of MelGAN's (Kumar et al. 2019, arXiv 1910.06711); resolutions are UnivNet's (Jang et al. 2021, arXiv
2106.07889) on complex spectrograms in bands (Descript Audio Codec, Kumar et al. 2023, arXiv 2306.06546), as Vocos (Siuzdak
2023, arXiv 2306.00814) has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

SLOPE = 0.1  # of every leaky ReLU, as in all the papers above
Judged = tuple[list[Tensor], list[list[Tensor]]]


def _scaled(channels: int, width: float) -> int:
    return max(4, round(channels * width / 4) * 4)


class _Stack(nn.Module):
    """Convolutions with leaky ReLUs between, and a last one to a single channel."""

    def __init__(self, layers: Sequence[nn.Module], last: nn.Module):
        super().__init__()
        self.convs, self.conv_post = nn.ModuleList(layers), last

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = []
        for layer in self.convs:
            x = F.leaky_relu(layer(x), SLOPE)
            features.append(x)
        x = self.conv_post(x)
        return x.flatten(1), [*features, x]


class Discriminators(nn.Module):
    """Several discriminators as one."""

    def __init__(self, parts: Sequence[nn.Module]):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, wave: Tensor) -> Judged:
        logits, features = [], []
        for part in self.parts:
            own, inner = part(wave)
            logits += own
            features += inner
        return logits, features


# ---------------------------------------------------------------------------- periods


class MultiPeriodDiscriminator(nn.Module):
    """HiFi-GAN's: every p-th sample side by side, for primes p, and convolutions along time.

    Args:
        periods: one part each.
        width: multiplier of the channels; 1 is the paper's 41 million parameters.
        norm: "weight", or "spectral".
    """

    def __init__(self, periods: Sequence[int] = (2, 3, 5, 7, 11), width: float = 1.0, norm: str = "weight"):
        super().__init__()
        self.periods = tuple(periods)
        normed = {"weight": weight_norm, "spectral": spectral_norm}[norm]
        sizes = [1, *(_scaled(channels, width) for channels in (32, 128, 512, 1024, 1024))]
        self.discriminators = nn.ModuleList(
            _Stack(
                [
                    normed(nn.Conv2d(inner, outer, (5, 1), (3 if n < 4 else 1, 1), padding=(2, 0)))
                    for n, (inner, outer) in enumerate(pairwise(sizes))
                ],
                normed(nn.Conv2d(sizes[-1], 1, (3, 1), padding=(1, 0))),
            )
            for _ in self.periods
        )

    def forward(self, wave: Tensor) -> Judged:
        logits, features = [], []
        for period, part in zip(self.periods, self.discriminators, strict=True):
            own, inner = part(_folded(wave, period))
            logits.append(own)
            features.append(inner)
        return logits, features


def _folded(wave: Tensor, period: int) -> Tensor:
    """[B, 1, T] to [B, 1, ceil(T / period), period], the end reflected to fill the last row."""
    if lacking := -wave.shape[-1] % period:
        wave = F.pad(wave, (0, lacking), "reflect")
    return wave.unflatten(-1, (-1, period))


# ---------------------------------------------------------------------------- scales

# channels, kernel, stride, groups of each layer
_HIFIGAN_SCALE = (
    (128, 15, 1, 1), (128, 41, 2, 4), (256, 41, 2, 16), (512, 41, 4, 16), (1024, 41, 4, 16), (1024, 41, 1, 16),
    (1024, 5, 1, 1),
)  # fmt: skip
_MELGAN_SCALE = (
    (16, 15, 1, 1), (64, 41, 4, 4), (256, 41, 4, 16), (1024, 41, 4, 64), (1024, 41, 4, 256), (1024, 5, 1, 1),
)  # fmt: skip


class MultiScaleDiscriminator(nn.Module):
    """The wave as it is, and averaged to half its rate, again and again.

    Args:
        scales: HiFi-GAN has 3, VITS 1.
        layout: "hifigan", or "melgan" (narrow first layers, many groups), which VITS has.
        width: multiplier of the channels.
        spectral_first: HiFi-GAN holds the first scale by spectral norm, VITS by weight norm like the others.
    """

    def __init__(self, scales: int = 3, layout: str = "hifigan", width: float = 1.0, spectral_first: bool = True):
        super().__init__()
        layers = {"hifigan": _HIFIGAN_SCALE, "melgan": _MELGAN_SCALE}[layout]
        self.discriminators = nn.ModuleList(
            _scale_stack(layers, width, spectral_norm if spectral_first and number == 0 else weight_norm)
            for number in range(scales)
        )

    def forward(self, wave: Tensor) -> Judged:
        logits, features = [], []
        for number, part in enumerate(self.discriminators):
            if number:
                wave = F.avg_pool1d(wave, 4, 2, padding=2)
            own, inner = part(wave)
            logits.append(own)
            features.append(inner)
        return logits, features


def _scale_stack(layers: Sequence[tuple[int, int, int, int]], width: float, normed) -> _Stack:
    convs, inner = [], 1
    for channels, kernel, stride, groups in layers:
        outer = _scaled(channels, width)
        shared = math.gcd(groups, math.gcd(inner, outer))
        convs.append(normed(nn.Conv1d(inner, outer, kernel, stride, padding=kernel // 2, groups=shared)))
        inner = outer
    return _Stack(convs, normed(nn.Conv1d(inner, 1, 3, padding=1)))


# ---------------------------------------------------------------------------- resolutions

_BANDS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # parts of the spectrum, as in the Descript Audio Codec


class MultiResolutionDiscriminator(nn.Module):
    """Complex spectrograms of several window lengths, each in five bands with convolutions of their own.

    Args:
        windows: lengths of FFT and Hann window in samples; the hop is a quarter.
        width: multiplier of the 32 channels.
    """

    def __init__(self, windows: Sequence[int] = (2048, 1024, 512), width: float = 1.0):
        super().__init__()
        self.discriminators = nn.ModuleList(_ResolutionPart(window, _scaled(32, width)) for window in windows)

    def forward(self, wave: Tensor) -> Judged:
        judged = [part(wave) for part in self.discriminators]
        return [logits for logits, _ in judged], [features for _, features in judged]


class _ResolutionPart(nn.Module):
    def __init__(self, window: int, channels: int):
        super().__init__()
        self.window = window
        self.register_buffer("hann", torch.hann_window(window), persistent=False)
        bins = window // 2 + 1
        self.edges = [round(part * bins) for part in _BANDS]
        self.bands = nn.ModuleList(
            nn.ModuleList(
                weight_norm(nn.Conv2d(inner, channels, kernel, stride, padding=(kernel[0] // 2, kernel[1] // 2)))
                for inner, kernel, stride in (
                    (2, (3, 9), (1, 1)),
                    (channels, (3, 9), (1, 2)),
                    (channels, (3, 9), (1, 2)),
                    (channels, (3, 9), (1, 2)),
                    (channels, (3, 3), (1, 1)),
                )
            )
            for _ in range(len(_BANDS) - 1)
        )
        self.conv_post = weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=(1, 1)))

    def forward(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        # Level is no clue: each wave to mean 0 and a peak of 0.8, as the codec's discriminator does.
        x = wave.squeeze(1).float()
        x = x - x.mean(dim=-1, keepdim=True)
        x = 0.8 * x / (x.abs().amax(dim=-1, keepdim=True) + 1e-9)
        spectrum = torch.stft(x, self.window, self.window // 4, window=self.hann, return_complex=True)
        planes = torch.view_as_real(spectrum).permute(0, 3, 2, 1)  # [B, 2, frames, bins]
        outputs, features = [], []
        for layers, (low, high) in zip(self.bands, pairwise(self.edges), strict=True):
            band = planes[..., low:high]
            for layer in layers:
                band = F.leaky_relu(layer(band), SLOPE)
                features.append(band)
            outputs.append(band)
        last = self.conv_post(torch.cat(outputs, dim=-1))
        return last.flatten(1), [*features, last]
