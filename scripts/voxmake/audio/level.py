"""Levels: RMS, loudness by ITU-R BS.1770-4, sample and true peak; clipping and bandwidth.

Signals are mono, float32, full scale = 1.0, shape (n,). Levels are in dB relative to full scale.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

_FLOOR_DB = -120.0  # what silence measures; -inf can't be written to JSON
_OVERSAMPLING = 4  # BS.1770-4, annex 2
_TAPS = 24  # of each of the four interpolators
_FULL_SCALE = 0.999  # clipped recordings sit at, or a hair below, full scale
_CLIPPED_RUN = 3  # samples in a row at full scale that make a clip; one alone may be a true peak
_BANDWIDTH_DB = -50.0  # below the strongest band of the average spectrum; NVIDIA SDP's EstimateBandwidth uses the same


def to_db(amplitude: float) -> float:
    return max(20 * math.log10(amplitude), _FLOOR_DB) if amplitude > 0 else _FLOOR_DB


def rms_db(samples: np.ndarray) -> float:
    """RMS level in dBFS (a full-scale square wave is 0 dB)."""
    return to_db(math.sqrt(_mean_square(samples)))


def _mean_square(samples: np.ndarray) -> float:
    # float64 sums by blocks: exact enough for hours, without a float64 copy of the signal
    blocks = (samples[start : start + (1 << 20)] for start in range(0, len(samples), 1 << 20))
    total = sum(float(np.dot(block.astype(np.float64), block)) for block in blocks)
    return total / len(samples) if len(samples) else 0.0


def sample_peak_db(samples: np.ndarray) -> float:
    return to_db(float(np.abs(samples).max(initial=0.0)))


# ---------------------------------------------------------------------------- loudness


@cache
def _k_weighting(rate_hz: int) -> np.ndarray:
    """BS.1770-4's two filters for any rate, as second-order sections, shape (2, 6).

    The standard gives coefficients for 48 kHz only; these are its analogue prototypes (shelf at
    1681.97 Hz with +4 dB, high pass at 38.14 Hz), bilinear-transformed: at 48 kHz they are the
    standard's numbers.
    """
    k = math.tan(math.pi * 1681.974450955533 / rate_hz)
    q, high = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    a0 = 1 + k / q + k * k
    shelf = [
        (high + band * k / q + k * k) / a0, 2 * (k * k - high) / a0, (high - band * k / q + k * k) / a0,
        1, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0,
    ]  # fmt: skip
    k, q = math.tan(math.pi * 38.13547087602444 / rate_hz), 0.5003270373238773
    a0 = 1 + k / q + k * k
    return np.array([shelf, [1, -2, 1, 1, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0]])


def loudness_lufs(samples: np.ndarray, rate_hz: int) -> float:
    """Integrated loudness of a mono signal: 400 ms blocks every 100 ms, gated at -70 LUFS and -10 LU.

    A clip shorter than 400 ms is one block of its own length.
    """
    from scipy import signal  # half a second to import, and most sets are levelled by RMS

    sections = _k_weighting(rate_hz)
    state = np.zeros((len(sections), 2))
    step = rate_hz // 10
    energies = []
    for start in range(0, len(samples), step * 600):  # a minute at a time, so memory stays flat
        weighted, state = signal.sosfilt(sections, samples[start : start + step * 600], zi=state)
        energies.append(np.add.reduceat(weighted * weighted, np.arange(0, len(weighted), step)))
    tenths = np.concatenate(energies) if energies else np.zeros(0)
    whole = len(samples) // step  # the last tenth may be short
    if whole < 4:
        blocks = np.array([tenths.sum() / max(len(samples), 1)])
    else:
        sums = np.concatenate([[0.0], np.cumsum(tenths[:whole])])
        blocks = (sums[4:] - sums[:-4]) / (4 * step)

    def lufs(power: float) -> float:
        return -0.691 + 10 * math.log10(power) if power > 0 else _FLOOR_DB

    heard = blocks[blocks > 10 ** ((-70 + 0.691) / 10)]
    if not len(heard):
        return _FLOOR_DB
    gate = 10 ** ((lufs(float(heard.mean())) - 10 + 0.691) / 10)
    return lufs(float(heard[heard > gate].mean()))


# ---------------------------------------------------------------------------- peaks


@cache
def _interpolators() -> np.ndarray:
    """Kaiser-windowed sinc between samples, one column for each of four positions, shape (24, 4)."""
    # An odd length puts one of the four on the samples themselves and one half way between them.
    length = _TAPS * _OVERSAMPLING - 1
    taps = np.sinc((np.arange(length) - length // 2) / _OVERSAMPLING) * np.kaiser(length, 8.0)
    taps = np.append(taps / taps.sum() * _OVERSAMPLING, 0.0)  # unity gain at 0 Hz
    return taps.reshape(_TAPS, _OVERSAMPLING)[::-1].astype(np.float32)


def true_peak(samples: np.ndarray) -> float:
    """Largest amplitude of the signal 4 times oversampled (BS.1770-4, annex 2), linear.

    Only where it can be: an interpolated value is at most L1 times the largest sample under the
    filter, so blocks whose samples all stay below peak / L1 can't hold the maximum.
    """
    filters = _interpolators()
    bound = float(np.abs(filters).sum(axis=0).max())
    size, reach = 128, _TAPS - 1
    padded = np.zeros(reach + (len(samples) // size + 1) * size + reach, np.float32)
    padded[reach : reach + len(samples)] = samples
    peaks = np.abs(padded[reach:-reach]).reshape(-1, size).max(axis=1)
    peak = float(peaks.max())
    blocks = np.lib.stride_tricks.sliding_window_view(padded, size + 2 * reach)[::size]
    high = np.flatnonzero(peaks >= peak / bound) if peak else []
    for part in range(0, len(high), 512):
        windows = np.lib.stride_tricks.sliding_window_view(blocks[high[part : part + 512]], _TAPS, axis=1)
        peak = max(peak, float(np.abs(windows @ filters).max()))
    return peak


def true_peak_db(samples: np.ndarray) -> float:
    """True peak in dBTP."""
    return to_db(true_peak(samples))


# ---------------------------------------------------------------------------- faults


def clipped_samples(samples: np.ndarray) -> int:
    """Samples that stand in runs of three or more at full scale."""
    at_limit = np.abs(samples) >= _FULL_SCALE
    if not at_limit.any():
        return 0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], at_limit.view(np.int8), [0]])))
    runs = edges[1::2] - edges[::2]
    return int(runs[runs >= _CLIPPED_RUN].sum())


def bandwidth_hz(samples: np.ndarray, rate_hz: int) -> float:
    """Highest frequency whose average power is within 50 dB of the strongest band's.

    Averaged over 1024-sample Hann windows of at most a minute from the middle of the clip. Tells a
    telephone recording saved at 48 kHz from a real one.
    """
    size = 1024
    middle = samples[max(0, len(samples) // 2 - 30 * rate_hz) : len(samples) // 2 + 30 * rate_hz]
    if len(middle) < size:
        middle = np.pad(middle, (0, size - len(middle)))
    frames = middle[: len(middle) // size * size].reshape(-1, size) * np.hanning(size).astype(np.float32)
    power = (np.abs(np.fft.rfft(frames, axis=1)) ** 2).mean(axis=0)
    within = np.flatnonzero(power >= power.max() * 10 ** (_BANDWIDTH_DB / 10))
    return float(within[-1] * rate_hz / size)
