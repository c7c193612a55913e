"""The linear spectrogram that VITS' posterior encoder reads."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@lru_cache(maxsize=4)
def _window(length: int, device: str) -> torch.Tensor:
    import torch

    return torch.hann_window(length, device=device)


def linear_spectrogram(wave: torch.Tensor, n_fft: int, hop: int) -> torch.Tensor:
    """Magnitudes as VITS was trained on them: frames centred by reflection, sqrt(power + 1e-6).

    Args:
        wave: shape (B, T), float32, -1 to 1.

    Returns:
        shape (B, n_fft / 2 + 1, T // hop).
    """
    import torch

    wave = wave.float()
    pad = (n_fft - hop) // 2
    padded = torch.nn.functional.pad(wave.unsqueeze(1), (pad, pad), mode="reflect").squeeze(1)
    window = _window(n_fft, str(wave.device))
    spectrum = torch.stft(padded, n_fft, hop, n_fft, window, center=False, return_complex=True)
    return torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-6)
