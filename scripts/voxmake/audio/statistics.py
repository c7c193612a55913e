"""What can be measured of a finished clip in a fraction of a millisecond: levels, pauses, edges, a hash.

A clip is mono and 16 bit (what preprocess makes). WAV is read without a library: header, then one
view of its samples. Levels are in dB relative to full scale.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
from pathlib import Path

import numpy as np

from voxmake.errors import Rejected

FRAME_S = 0.01
SILENCE_DB = 35.0  # a frame this far below the clip's speech level is a pause; weak fricatives lie 20 to 30 dB below
_FLOOR_DB = -120.0
_EDGE_FRAMES = 2  # 20 ms: shorter than a phone, longer than a period of the lowest voice
_MAX_SNR_DB = 80.0  # 16 bits hold no more below speech
_CLIPPED_RUN = 3  # as in level.py: one sample alone at the limit may be a true peak
_FULL_SCALE = 32735  # 0.999 of full scale, as in level.py


def read_clip(path: Path) -> tuple[np.ndarray, int]:
    """Samples as int16, shape (n,), and the rate in Hz.

    Raises:
        Rejected: not a mono clip that can be decoded.
    """
    data = path.read_bytes()
    found = _pcm16(data)
    if found is None:
        found = _decoded(data)
    samples, rate_hz, channels = found
    if channels != 1:
        raise Rejected("too_many_channels", f"{channels} channels in a finished clip")
    if not len(samples):
        raise Rejected("no_samples")
    return samples, rate_hz


def _pcm16(data: bytes) -> tuple[np.ndarray, int, int] | None:
    """A whole 16-bit PCM WAV file, or None if it is anything else."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    position, fmt = 12, None
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if position + size > len(data):
            return None  # libsndfile decides what to make of a file that ends too early
        if name == b"fmt " and size >= 16:
            fmt = struct.unpack_from("<HHIIHH", data, position)
        elif name == b"data":
            if fmt is None or (fmt[0], fmt[5]) != (1, 16):
                return None
            return np.frombuffer(data, "<i2", size // 2, position), fmt[2], fmt[1]
        position += size + size % 2
    return None


def _decoded(data: bytes) -> tuple[np.ndarray, int, int]:
    import soundfile

    try:
        samples, rate_hz = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise Rejected("undecodable", str(error).split("\n")[0]) from None
    return samples[:, 0], rate_hz, samples.shape[1]


def clip_statistics(samples: np.ndarray, rate_hz: int) -> dict[str, float | str]:
    """Measure one clip.

    Args:
        samples: int16, shape (n,), n > 0.

    Returns:
        duration_s
        rms_db, peak_db: level and sample peak, in dBFS.
        dc_ratio: mean, as a share of full scale.
        flat_top_ratio: share of samples in runs of three or more at the clip's own highest or
            lowest value, or at full scale: a clipped recording keeps its flat tops when it is made quieter.
        speech_db: 95th percentile of the levels of 10 ms frames.
        snr_db: speech_db less the 10th percentile, after NIST's STNR (SPQA 2.3), which takes the
            speech peak from the 95th percentile and the noise from the low hump of the same
            histogram. Frames of digital silence say nothing about noise and are left out. A clip
            without a pause measures too low.
        silence_ratio: share of frames 35 dB or more below speech_db.
        head_s, tail_s: pause before the first and after the last frame above that.
        pause_s: longest pause between them.
        edge_start_db, edge_end_db: level of the first and the last 20 ms relative to speech_db;
            near 0 when the cut went through a word.
        audio_sha256: of the samples, little-endian: equal for equal audio in any container.
    """
    size = max(1, round(FRAME_S * rate_hz))
    values = samples.astype(np.float32)
    whole = len(values) // size * size
    frames = values[:whole].reshape(-1, size) if whole else values[None, :]
    power = np.einsum("ij,ij->i", frames, frames) / (frames.shape[1] * 32768.0**2)
    level_db = 10 * np.log10(np.maximum(power, 1e-12))
    low, high = int(samples.min()), int(samples.max())
    # Sums of whole numbers below 2^24 are exact in float32, and a matrix product is quicker than a sum.
    total = float((frames @ np.ones(frames.shape[1], np.float32)).sum(dtype=np.float64)) if whole else 0.0
    total += int(samples[whole:].sum(dtype=np.int64))
    speech_db, noise_db = _hump_levels(level_db, power)
    loud = np.flatnonzero(level_db > speech_db - SILENCE_DB) if speech_db > _FLOOR_DB else np.zeros(0, int)
    first, last = (int(loud[0]), int(loud[-1])) if len(loud) else (len(level_db), len(level_db) - 1)
    return {
        "duration_s": round(len(samples) / rate_hz, 6),
        "rms_db": round(_db(float(np.dot(values, values)) / len(values) / 32768.0**2), 2),
        "peak_db": round(_db((max(-low, high) / 32768.0) ** 2), 2),
        "dc_ratio": round(total / len(samples) / 32768, 6) + 0.0,  # no -0.0
        "flat_top_ratio": round(_flat_tops(samples, low, high) / len(samples), 6),
        "speech_db": round(speech_db, 2),
        "snr_db": round(min(max(speech_db - noise_db, 0.0), _MAX_SNR_DB), 2),
        "silence_ratio": round(1 - len(loud) / len(level_db), 4),
        "head_s": round(min(first * FRAME_S, len(samples) / rate_hz), 2),
        "tail_s": round((len(level_db) - 1 - last) * FRAME_S, 2),
        "pause_s": round(max(0, int(np.diff(loud).max(initial=1)) - 1) * FRAME_S, 2),
        "edge_start_db": round(_db(float(power[:_EDGE_FRAMES].mean())) - speech_db, 2),
        "edge_end_db": round(_db(float(power[-_EDGE_FRAMES:].mean())) - speech_db, 2),
        "audio_sha256": hashlib.sha256(samples.astype("<i2", copy=False).tobytes()).hexdigest(),
    }


def _db(power: float) -> float:
    return max(10 * math.log10(power), _FLOOR_DB) if power > 0 else _FLOOR_DB


def _hump_levels(level_db: np.ndarray, power: np.ndarray) -> tuple[float, float]:
    """95th and 10th percentile of the frames that hold anything; sorted once, numpy's percentile is slower."""
    heard = np.sort(level_db[power > 0])
    if not len(heard):
        return _FLOOR_DB, _FLOOR_DB
    return float(heard[int(0.95 * (len(heard) - 1))]), float(heard[int(0.10 * (len(heard) - 1))])


def _flat_tops(samples: np.ndarray, low: int, high: int) -> int:
    """Samples in runs of three or more at the clip's extremes, or at full scale."""
    top, bottom = min(high, _FULL_SCALE), max(low, -_FULL_SCALE)
    if top <= 0 <= bottom:
        return 0
    at_limit = (samples >= max(top, 1)) | (samples <= min(bottom, -1))
    where = np.flatnonzero(at_limit)
    if len(where) < _CLIPPED_RUN:
        return 0
    runs = np.diff(np.flatnonzero(np.concatenate([[True], np.diff(where) > 1, [True]])))
    return int(runs[runs >= _CLIPPED_RUN].sum())
