"""Statistics of clips against librosa and ffmpeg; copies among many texts and recordings."""

from __future__ import annotations

import shutil
import statistics
import subprocess
from pathlib import Path

from voxmake.bench.measuring import RATE_HZ, cpu_seconds, make_clips, row, seconds


def quality(scratch: Path, rounds: int) -> list[dict]:
    """Statistics of finished clips on one core, in files a second; copies among 20 000 texts and recordings."""
    import librosa
    import numpy as np
    import soundfile
    import soxr

    from voxmake.audio.statistics import clip_statistics, read_clip
    from voxmake.quality.duplicates import groups_of, text_key
    from voxmake.quality.fingerprint import fingerprint, near_duplicates

    paths = []
    for path in make_clips(scratch / "quality", 200):  # the usual mix, as preprocess leaves it
        samples, rate_hz = soundfile.read(path, dtype="float32")
        paths.append(path.with_suffix(".16k.wav"))
        soundfile.write(paths[-1], soxr.resample(samples, rate_hz, RATE_HZ), RATE_HZ, subtype="PCM_16")

    def by_numpy(path: Path) -> None:
        clip_statistics(*read_clip(path))

    def by_librosa(path: Path) -> None:
        samples, _ = librosa.load(path, sr=None)
        level = librosa.amplitude_to_db(librosa.feature.rms(y=samples)[0])
        np.percentile(level, [10, 95]), np.abs(samples).max(), samples.mean(), (np.abs(samples) >= 0.999).sum()

    def by_astats(path: Path) -> None:
        command = ["ffmpeg", "-v", "error", "-i", path, "-af", "astats", "-f", "null", "-"]
        subprocess.run(command, check=True, capture_output=True)

    def printed(path: Path) -> None:
        fingerprint(*read_clip(path))

    ways = [("librosa", by_librosa, 200)]
    if shutil.which("ffmpeg"):
        ways.append(("ffmpeg astats, a process each", by_astats, 20))
    rates: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, call, count in (("ours", by_numpy, 200), ("print", printed, 200), *ways):
            call(paths[0])
            rates.setdefault(name, []).append(
                count / cpu_seconds(lambda c=call, n=count: [c(path) for path in paths[:n]])
            )
    ours = statistics.median(rates["ours"])
    lines = []
    for name, _, _ in ways:
        ratio = statistics.median(a / b for a, b in zip(rates["ours"], rates[name], strict=True))
        lines.append(
            row("clip statistics, 3-15 s, one core", "files/s", ours, name, statistics.median(rates[name]), ratio)
        )
    texts = [f"Sentence number {number % 19000}, read by somebody who has time." for number in range(20000)]
    random_vectors = np.random.default_rng(0).normal(size=(20000, 4, 128))
    random_vectors *= 1000 / np.linalg.norm(random_vectors, axis=2, keepdims=True)
    prints = [([0, 20, 40, 60], vectors.astype(np.int16)) for vectors in random_vectors]
    copies_s = seconds(lambda: groups_of(map(text_key, texts)))
    near_s = seconds(lambda: near_duplicates(prints, [].__getitem__, 0.85))
    return [
        *lines,
        {
            "what": "fingerprints, 3-15 s, one core",
            "unit": "files/s",
            "voxmake": round(statistics.median(rates["print"])),
            "limit": 300,
        },
        {"what": "duplicates of 20 000 texts", "unit": "s", "voxmake": round(copies_s, 2), "limit": 5.0},
        {"what": "near-duplicates of 20 000 fingerprints", "unit": "s", "voxmake": round(near_s, 1), "limit": 60.0},
    ]
