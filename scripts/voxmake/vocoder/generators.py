"""Networks from units to a waveform: a front of ConvNeXt blocks at the units' rate, then one of two bodies.

Sources: ConvNeXt blocks and the inverse STFT head are Vocos' (Siuzdak 2023, arXiv 2306.00814); upsampling and
residual blocks HiFi-GAN V1's (Kong et al. 2020, arXiv 2010.05646), with rates for 320 samples a unit as in discrete
resynthesis (Polyak et al. 2021, arXiv 2104.00355); the mel that the front tells besides is vec2wav 2.0's (Guo et al. 2024,
arXiv 2409.01995).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from voxmake.units.features import RATE_HZ
from voxmake.vocoder.data import BASE_HZ

AUXILIARY_MELS = 80
_KERNEL = 7  # of every convolution at the units' rate


class ConvNeXt(nn.Module):
    """Depthwise convolution, then two dense layers at each time alone, added to the input. [B, dim, F] -> same."""

    def __init__(self, dim: int, inner: int, scale: float):
        super().__init__()
        self.depthwise = nn.Conv1d(dim, dim, _KERNEL, padding=_KERNEL // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.widen, self.narrow = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.scale = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).transpose(1, 2))
        return x + (self.scale * self.narrow(F.gelu(self.widen(y)))).transpose(1, 2)


def _blocks(count: int, dim: int, of: int) -> nn.Sequential:
    return nn.Sequential(*(ConvNeXt(dim, 3 * dim, 1 / of) for _ in range(count)))


class Front(nn.Module):
    """Units [B, F], and speakers [B] and pitch [B, 3, F] where it was made with them, to [B, dim, F]."""

    def __init__(self, units: int, embedding: int, dim: int, layers: int, of: int, speakers: int, pitch: bool):
        super().__init__()
        self.units = nn.Embedding(units, embedding)
        self.speakers = nn.Embedding(speakers, embedding) if speakers else None
        self.pitch = nn.Conv1d(2, embedding, 1) if pitch else None
        self.enter = nn.Conv1d(embedding, dim, _KERNEL, padding=_KERNEL // 2)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.blocks = _blocks(layers, dim, of)

    def forward(self, units: Tensor, speakers: Tensor | None, pitch: Tensor | None) -> Tensor:
        x = self.units(units).transpose(1, 2)
        if self.speakers is not None:
            x = x + self.speakers(speakers)[:, :, None]
        if self.pitch is not None:
            x = x + self.pitch(pitch[:, :2])
        x = self.norm(self.enter(x).transpose(1, 2)).transpose(1, 2)
        return self.blocks(x)


class IstftBody(nn.Module):
    """[B, dim, F] -> [B, 1, F * hop]: magnitude and phase of each frame's spectrum, put together by overlap."""

    def __init__(self, dim: int, layers: int, of: int, fft: int, hop: int):
        super().__init__()
        self.blocks = _blocks(layers, dim, of)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, fft + 2)
        self.fft, self.hop = fft, hop
        self.register_buffer("hann", torch.hann_window(fft), persistent=False)
        # Frames on either side that a sample depends on: blocks, and windows that overlap.
        self.context = layers * (_KERNEL // 2) + -(-fft // (2 * hop)) + 1

    def forward(self, x: Tensor, pitch: Tensor | None) -> Tensor:
        x = self.head(self.norm(self.blocks(x).transpose(1, 2)))
        with torch.autocast(x.device.type, enabled=False):
            magnitude, phase = x.float().transpose(1, 2).chunk(2, dim=1)
            # No more than 100, Vocos' limit: an exponential must not explode in early steps.
            if pitch is not None:
                phase = phase + self._pulse_phase(pitch.float())
            spectrum = torch.polar(torch.exp(magnitude).clamp(max=1e2), phase)
            return self._overlap(spectrum)

    @torch.no_grad()
    def _pulse_phase(self, pitch: Tensor) -> Tensor:
        """Phases of the frames' spectra of pulses at this pitch, 0 where there are none. [B, 3, F] -> [B, bins, F].

        The network adds its own to these: harmonics hang together from the first step on, as a source of sines or pulses
        makes them in neural source-filter models (Wang et al. 2019, arXiv 1810.11946).
        """
        log_f0, voiced, start = pitch[..., None].unbind(1)  # [B, F, 1]
        hz = BASE_HZ * torch.exp(log_f0)
        within = torch.arange(self.hop, device=pitch.device)
        phase = (start + hz * within / RATE_HZ) % 1
        # The sum of all cosines below 7.6 kHz in closed form (Dirichlet's kernel).
        harmonics = torch.floor(7600 / hz)
        sine = torch.sin(math.pi * phase)
        near = sine.abs() < 1e-4
        kernel = torch.sin(math.pi * (2 * harmonics + 1) * phase) / torch.where(near, torch.ones_like(sine), sine)
        pulses = voiced * torch.where(near, 2 * harmonics, kernel - 1)
        cut = (self.fft - self.hop) // 2
        wave = F.pad(pulses.flatten(1), (cut, self.fft - self.hop - cut))
        frames = wave.unfold(-1, self.fft, self.hop) * self.hann
        return torch.fft.rfft(frames).angle().transpose(1, 2)

    def _overlap(self, spectrum: Tensor) -> Tensor:
        """Inverse STFT with as many hops as frames: the window's half is cut off at both ends."""
        frames = torch.fft.irfft(spectrum, self.fft, dim=1, norm="backward") * self.hann[None, :, None]
        count = spectrum.shape[-1]
        length, cut = (count - 1) * self.hop + self.fft, (self.fft - self.hop) // 2

        def add(pieces: Tensor) -> Tensor:
            return F.fold(pieces, (1, length), (1, self.fft), stride=(1, self.hop))[
                :, 0, 0, cut : cut + count * self.hop
            ]

        envelope = add(self.hann.square()[None, :, None].expand(1, self.fft, count))
        return (add(frames) / envelope.clamp(min=1e-8))[:, None]


class HifiganBody(nn.Module):
    """[B, dim, F] -> [B, 1, F * hop]: HiFi-GAN V1 behind the front."""

    _KERNELS, _DILATIONS = (3, 7, 11), (1, 3, 5)

    def __init__(self, dim: int, channels: int, rates: Sequence[int]):
        super().__init__()
        self.enter = weight_norm(nn.Conv1d(dim, channels, 7, padding=3))
        self.ups, self.residuals = nn.ModuleList(), nn.ModuleList()
        for rate in rates:
            kernel = 2 * rate + rate % 2  # with this padding every sample becomes exactly `rate`
            self.ups.append(
                weight_norm(nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=(kernel - rate) // 2))
            )
            channels //= 2
            self.residuals.append(nn.ModuleList(_Residual(channels, size, self._DILATIONS) for size in self._KERNELS))
        self.leave = weight_norm(nn.Conv1d(channels, 1, 7, padding=3))
        self.context = _hifigan_context(rates, max(self._KERNELS), self._DILATIONS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for up, residuals in zip(self.ups, self.residuals, strict=True):
            x = up(F.leaky_relu(x, 0.1))
            x = torch.stack([residual(x) for residual in residuals]).mean(0)
        return torch.tanh(self.leave(F.leaky_relu(x)).float())


class _Residual(nn.Module):
    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]):
        super().__init__()

        def conv(dilation: int) -> nn.Module:
            return weight_norm(
                nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=(kernel - 1) // 2 * dilation)
            )

        self.pairs = nn.ModuleList(nn.ModuleList([conv(dilation), conv(1)]) for dilation in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for first, second in self.pairs:
            x = x + second(F.leaky_relu(first(F.leaky_relu(x, 0.1)), 0.1))
        return x


def _hifigan_context(rates: Sequence[int], kernel: int, dilations: Sequence[int]) -> int:
    """Units on either side that a sample depends on, rounded up."""
    reach, scale = 3.0, 1  # in units; samples of a unit so far
    for rate in rates:
        reach += 1 / scale + 1 / scale  # a transposed convolution sees its neighbours
        scale *= rate
        reach += sum((kernel - 1) // 2 * (dilation + 1) for dilation in dilations) / scale
    return int(reach + 3 / scale) + 1


class Generator(nn.Module):
    """Units to a waveform.

    Args:
        units: size of the tokeniser.
        speakers: how many, 0 for none.
        hop: samples of a unit.
        spec: the config section `vocoder` (see spec.py for the keys' meaning).
    """

    def __init__(self, units: int, speakers: int, hop: int, spec):
        super().__init__()
        self.hop = hop
        of = spec.layers
        self.front = Front(units, spec.embedding, spec.dim, spec.front_layers, of, speakers, spec.f0)
        rest = of - spec.front_layers
        if spec.generator == "vocos":
            self.body: nn.Module = IstftBody(spec.dim, rest, of, spec.fft, hop)
        else:
            hifigan = HifiganBody(spec.dim, spec.upsample_channels, spec.upsample_rates)
            self.body = nn.Sequential(_blocks(rest, spec.dim, of), hifigan)
        self.mel = nn.Conv1d(spec.dim, AUXILIARY_MELS, 1)
        # Units on either side that a sample depends on: what a chunk needs to come out as in the whole.
        body_context = self.body.context if spec.generator == "vocos" else self.body[1].context + 3 * rest
        self.context = _KERNEL // 2 * (1 + spec.front_layers) + body_context
        for module in self.modules():
            if isinstance(module, nn.Linear):  # as in Vocos; convolutions keep PyTorch's
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(
        self, units: Tensor, speakers: Tensor | None = None, pitch: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Units [B, F], speakers [B], pitch [B, 3, F] to waves [B, 1, F * hop] and the front's log-mel [B, 80, F]."""
        x = self.front(units, speakers, pitch)
        if isinstance(self.body, IstftBody):
            return self.body(x, pitch if self.front.pitch is not None else None), self.mel(x)
        return self.body(x), self.mel(x)
