"""A clip for listeners: one loudness under a limiter, and the bytes of a WAV, MP3 or Opus file with tags."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soxr

from voxmake.audio.level import loudness_lufs, true_peak_db
from voxmake.errors import Rejected

_LOOK_S = 0.005  # the limiter sees so far ahead, and lets go as slowly
_MARGIN_DB = 0.1  # what smoothing and coding may add to a peak
_CLOSE_LU = 0.02
_ROUNDS = 12
_OPUS_RATE_HZ = 48000


def master(samples: np.ndarray, rate_hz: int, target_lufs: float, max_true_peak_db: float) -> np.ndarray:
    """Level a clip to a loudness (ITU-R BS.1770-4); peaks above the limit are turned down, not cut.

    Raises:
        Rejected: nothing is heard in it, or the loudness can't be reached below the peak.
    """
    measured = loudness_lufs(samples, rate_hz)
    if measured < -70:
        raise Rejected("silent", "nothing above -70 LUFS")
    gain_db = target_lufs - measured
    for _ in range(_ROUNDS):
        levelled = _limited(samples * np.float32(10 ** (gain_db / 20)), rate_hz, max_true_peak_db - _MARGIN_DB)
        missing = target_lufs - loudness_lufs(levelled, rate_hz)
        if abs(missing) <= _CLOSE_LU:
            break
        gain_db += missing
    over_db = true_peak_db(levelled) - max_true_peak_db
    if over_db > 0:
        levelled *= np.float32(10 ** (-over_db / 20))
    if abs(target_lufs - loudness_lufs(levelled, rate_hz)) > 0.4:
        raise Rejected("speech_failed", f"{target_lufs:g} LUFS can't be reached below {max_true_peak_db:g} dBTP")
    return levelled


def _limited(samples: np.ndarray, rate_hz: int, ceiling_db: float) -> np.ndarray:
    """Gain follows the true peak: the smallest gain within a window, smoothed by a window of the same length."""
    from scipy.ndimage import minimum_filter1d

    between = np.abs(soxr.resample(samples, rate_hz, 4 * rate_hz))
    between = np.pad(between, (0, max(0, 4 * len(samples) - len(between))))[: 4 * len(samples)]
    peaks = np.maximum(between.reshape(-1, 4).max(axis=1), np.abs(samples))
    ceiling = 10 ** (ceiling_db / 20)
    if peaks.max(initial=0.0) <= ceiling:
        return samples
    needed = np.minimum(1.0, ceiling / np.maximum(peaks, 1e-9))
    reach = max(1, round(_LOOK_S * rate_hz))
    window = np.hanning(2 * reach + 3)[1:-1]
    held = np.pad(minimum_filter1d(needed, 2 * reach + 1), reach, mode="edge")
    return (samples * np.convolve(held, window / window.sum(), mode="valid")).astype(np.float32)


def encode(samples: np.ndarray, rate_hz: int, file_format: str, bitrate_kbps: int, tags: dict[str, str]) -> bytes:
    """The bytes of a file; the same for the same arguments, whenever it is made.

    Args:
        file_format: wav (16 bit), mp3 or opus (in Ogg, 48 kHz).
        tags: title, artist, comment …
    """
    import imageio_ffmpeg

    codec = {
        "wav": ["-c:a", "pcm_s16le", "-f", "wav"],
        "mp3": ["-c:a", "libmp3lame", "-b:a", f"{bitrate_kbps}k", "-f", "mp3"],
        "opus": ["-c:a", "libopus", "-b:a", f"{bitrate_kbps}k", "-ar", str(_OPUS_RATE_HZ), "-f", "ogg"],
    }[file_format]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"  # a pipe can't be gone back in: the WAV header would lack its sizes
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "f32le", "-ar", str(rate_hz), "-ac", "1",
            "-i", "pipe:", "-map_metadata", "-1", *(part for tag in tags.items() for part in ("-metadata", "=".join(tag))),
            "-fflags", "+bitexact", "-flags:a", "+bitexact", *codec, f"file:{path}",
        ]  # fmt: skip
        data = np.clip(samples, -1, 1).astype("<f4").tobytes()
        made = subprocess.run(command, input=data, capture_output=True, check=False)
        if made.returncode != 0 or not path.is_file():
            raise Rejected("speech_failed", f"ffmpeg: {made.stderr.decode(errors='replace').strip()[-200:]}")
        return path.read_bytes()
