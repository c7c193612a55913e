"""One recording to one clip: mono, one rate, one level, as the bytes of a WAV or FLAC file."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import soundfile
import soxr

from voxmake.audio.decode import Decoded
from voxmake.audio.level import (
    bandwidth_hz,
    clipped_samples,
    loudness_lufs,
    rms_db,
    sample_peak_db,
    to_db,
    true_peak,
)
from voxmake.audio.probe import check_duration, probe
from voxmake.audio.spec import AudioSpec
from voxmake.errors import Rejected

_FRAME_S = 0.01  # resolution of trimming


def standardise(path: Path, spec: AudioSpec) -> tuple[bytes, dict]:
    """Decode, mix down, resample, trim, level, guard, quantise.

    The result depends on the file's bytes and on `spec` alone. It is made in memory, so that a full
    disk fails where the caller writes and never leaves half a file.

    Returns:
        the bytes of the clip's file, and what was measured (the columns of metadata.csv).

    Raises:
        Rejected: the recording can't be used.
    """
    source = Decoded(path, spec, probe(path, spec))
    samples, clipped = _resampled(source, spec.sample_rate_hz)
    peak_db = sample_peak_db(samples)
    offset = float(samples.mean(dtype=np.float64))
    if spec.remove_dc:
        samples -= np.float32(offset)
    if sample_peak_db(samples) < spec.silence_db:
        raise Rejected("silent", f"peak {peak_db:.1f} dBFS")
    start, end = _speech_bounds(samples, spec) if spec.trim_silence else (0, len(samples))
    trimmed = samples[start:end]
    check_duration(len(trimmed) / spec.sample_rate_hz, spec)

    before_db = measure_level(trimmed, spec)
    gain_db, guarded, peak = _gain(trimmed, before_db, spec)
    trimmed *= np.float32(10 ** (gain_db / 20))
    row = {
        "duration_s": round(len(trimmed) / spec.sample_rate_hz, 6),
        "sample_rate_hz": spec.sample_rate_hz,
        "level_before_db": round(before_db, 2),
        "level_after_db": round(measure_level(trimmed, spec), 2),
        "gain_db": round(gain_db, 2),
        "true_peak_db": round(to_db(peak) + gain_db, 2),
        "peak_guard": guarded,
        "clipping_ratio": round(clipped / source.frames, 6),
        "bandwidth_hz": round(bandwidth_hz(trimmed, spec.sample_rate_hz)),
        "dc_offset": round(offset, 6),
        "trim_start_s": round(start / spec.sample_rate_hz, 6),
        "trim_end_s": round((len(samples) - end) / spec.sample_rate_hz, 6),
        "source_format": source.codec,
        "source_sample_rate_hz": source.sample_rate_hz,
        "source_channels": source.channels,
        "source_duration_s": round(source.frames / source.sample_rate_hz, 6),
    }
    return encode(trimmed, spec), row


def _resampled(source: Decoded, rate_hz: int) -> tuple[np.ndarray, int]:
    """The whole recording at the target rate, and how many source samples are clipped.

    Mixed to mono before resampling, block by block, so memory holds the result and no more. The
    result is round(frames * target / source) samples long: within one sample of the source's length.
    """
    resampler, parts, clipped = None, [], 0
    for block in source:
        clipped += clipped_samples(block)
        if source.sample_rate_hz == rate_hz:
            parts.append(np.ascontiguousarray(block))
            continue
        # HQ: 20 bit precision, images below -120 dB
        resampler = resampler or soxr.ResampleStream(source.sample_rate_hz, rate_hz, 1, dtype="float32", quality="HQ")
        parts.append(resampler.resample_chunk(np.ascontiguousarray(block)))
    if resampler is not None:
        parts.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    samples = parts[0] if len(parts) == 1 else np.concatenate(parts)
    length = round(source.frames * rate_hz / source.sample_rate_hz)
    if len(samples) < length:
        samples = np.pad(samples, (0, length - len(samples)))
    return np.array(samples[:length]), clipped  # a copy of our own: it is changed in place


def measure_level(samples: np.ndarray, spec: AudioSpec) -> float:
    """The level that `spec.level_mode` speaks of, in dB."""
    if spec.level_mode == "lufs":
        return loudness_lufs(samples, spec.sample_rate_hz)
    return rms_db(samples) if spec.level_mode == "rms" else sample_peak_db(samples)


def _gain(samples: np.ndarray, level_db: float, spec: AudioSpec) -> tuple[float, bool, float]:
    """Gain in dB, whether the guard lowered it, and the true peak before it (linear).

    The guard lowers the gain of the whole clip: a limiter would change its sound. Without
    normalising it only keeps samples from being cut off.
    """
    peak = true_peak(samples)
    wanted_db = spec.target_db - level_db if spec.normalize else 0.0
    limit_db = spec.true_peak_limit_db if spec.normalize else max(0.0, to_db(peak) - sample_peak_db(samples))
    allowed_db = limit_db - to_db(peak)
    return (allowed_db, True, peak) if wanted_db > allowed_db + 1e-6 else (wanted_db, False, peak)


def _speech_bounds(samples: np.ndarray, spec: AudioSpec) -> tuple[int, int]:
    """First and last sample to keep: 10 ms frames against the loudest one, with a pad on each side."""
    size = round(_FRAME_S * spec.sample_rate_hz)
    padded = np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)
    power = np.einsum("ij,ij->i", padded, padded)
    loud = np.flatnonzero(power >= power.max() * 10 ** (spec.trim_threshold_db / 10))
    pad = round(spec.trim_pad_s * spec.sample_rate_hz)
    return max(0, loud[0] * size - pad), min(len(samples), (loud[-1] + 1) * size + pad)


def encode(samples: np.ndarray, spec: AudioSpec) -> bytes:
    """The bytes of a WAV or FLAC file; samples are rounded to the nearest step, without dither."""
    steps = 1 << (spec.bit_depth - 1)
    whole = np.clip(np.rint(samples.astype(np.float64) * steps), -steps, steps - 1).astype("<i4")
    if spec.file_format == "flac":
        data = io.BytesIO()
        shifted = whole << (32 - spec.bit_depth)  # soundfile takes int32 at full scale
        soundfile.write(data, shifted, spec.sample_rate_hz, format="FLAC", subtype=f"PCM_{spec.bit_depth}")
        return data.getvalue()
    width = spec.bit_depth // 8
    body = whole.astype("<i2").tobytes() if width == 2 else whole.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    fmt = struct.pack("<HHIIHH", 1, 1, spec.sample_rate_hz, spec.sample_rate_hz * width, width, spec.bit_depth)
    pad = b"\0" * (len(body) % 2)
    size = 4 + 8 + len(fmt) + 8 + len(body) + len(pad)
    return b"".join(
        [
            b"RIFF",
            struct.pack("<I", size),
            b"WAVEfmt ",
            struct.pack("<I", len(fmt)),
            fmt,
            b"data",
            struct.pack("<I", len(body)),
            body,
            pad,
        ]
    )
