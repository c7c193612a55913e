"""preprocess against ffmpeg-python and ffmpeg-normalize; its memory; a `make` with nothing to do."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from voxmake.bench.measuring import (
    CORES,
    RATE_HZ,
    TARGET_DB,
    fresh,
    make_clips,
    peak_memory_mb,
    row,
    seconds,
    stage,
)
from voxmake.run.stage import PROJECT_ROOT


def by_voxmake(clips: Path, work: Path) -> None:
    """The preprocess stage as `make` runs it: decoders in worker processes, journal, manifest, fsync."""
    stage("preprocess", clips, work)


def by_ffmpeg_python(paths: list[Path], work: Path, binary: str) -> None:
    """One ffmpeg process for each file through ffmpeg-python, level by numpy: what most pipelines do."""
    import ffmpeg
    import numpy as np
    import soundfile

    def one(path: Path) -> None:
        stream = ffmpeg.input(str(path)).output("pipe:", format="f32le", ac=1, ar=RATE_HZ)
        data, _ = stream.run(cmd=binary, capture_stdout=True, capture_stderr=True)
        samples = np.frombuffer(data, np.float32)
        gain = 10 ** (TARGET_DB / 20) / np.sqrt(np.mean(samples**2))
        soundfile.write(work / f"{path.stem}.wav", np.clip(samples * gain, -1, 1), RATE_HZ, subtype="PCM_16")

    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(one, paths))


def by_ffmpeg_normalize(paths: list[Path], work: Path, binary: str) -> None:
    """ffmpeg-normalize, one call for each file, RMS mode: measure, then apply."""
    environment = os.environ | {"FFMPEG_PATH": binary}
    command = [
        Path(sys.executable).with_name("ffmpeg-normalize"),
        "--normalization-type",
        "rms",
        "--target-level",
        str(TARGET_DB),
    ]

    def one(path: Path) -> None:
        output = ["-ar", str(RATE_HZ), "-c:a", "pcm_s16le", "-e=-ac 1", "-o", work / f"{path.stem}.wav", "-f", "-q"]
        subprocess.run([*command, path, *output], check=True, env=environment, capture_output=True)

    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(one, paths))


def speed(scratch: Path, rounds: int) -> list[dict]:
    """Clips per second of each way, in alternation; the slow ways get fewer clips of the same mix."""
    import imageio_ffmpeg

    clips = scratch / "clips"
    paths = make_clips(clips, 1000)
    # The wheel's static build starts faster than a distribution's shared one, which is what PATH usually holds.
    binaries = {"the wheel's ffmpeg": imageio_ffmpeg.get_ffmpeg_exe()}
    if system := shutil.which("ffmpeg"):
        binaries["the system's ffmpeg"] = system
    ours: list[float] = []
    rates: dict[str, list[float]] = {}
    for _ in range(rounds):
        work = fresh(scratch / "work")
        stage("collect", clips, work)
        ours.append(len(paths) / seconds(by_voxmake, clips, work))
        for name, binary in binaries.items():
            for way, call, count in (
                ("ffmpeg-python", by_ffmpeg_python, 100),
                ("ffmpeg-normalize", by_ffmpeg_normalize, 16),
            ):
                taken_s = seconds(call, paths[:count], fresh(scratch / "usual"), binary)
                rates.setdefault(f"{way}, {name}", []).append(count / taken_s)
    return [
        row(
            "preprocess, mixed wav/mp3/flac/ogg, 3-15 s",
            "clips/s",
            statistics.median(ours),
            way,
            statistics.median(theirs),
            statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        )
        for way, theirs in rates.items()
    ]


def memory(scratch: Path) -> list[dict]:
    """Peak memory of the whole process tree for 100 and for 2 000 clips."""
    peaks_mb = []
    for count in (100, 2000):
        clips = scratch / f"clips{count}"
        make_clips(clips, count)
        work = fresh(scratch / "work")
        stage("collect", clips, work)
        peaks_mb.append(peak_memory_mb(by_voxmake, clips, work))
    return [
        row("preprocess, peak memory, 2 000 clips", "MiB", peaks_mb[1], "itself: 100 clips", peaks_mb[0], peaks_mb[1] / peaks_mb[0])
    ]  # fmt: skip


def noop(scratch: Path) -> list[dict]:
    """A `make all` with nothing to do, and the slowest --help."""
    clips, work = scratch / "noop", fresh(scratch / "work")
    make_clips(clips, 1000)
    stage("collect", clips, work)
    by_voxmake(clips, work)
    environment = os.environ | {"VOXMAKE_DATA": str(work)}
    ready = ["make", "-q", f"ENVS={Path(sys.prefix).parent}", f"CONFIG={work / 'bench.yaml'}", "all"]
    made = [seconds(lambda: subprocess.run(ready, cwd=PROJECT_ROOT, check=True, env=environment)) for _ in range(5)]
    helps = {
        path.stem: statistics.median(
            seconds(
                lambda path=path: subprocess.run(
                    [sys.executable, path, "--help"], check=True, stdout=subprocess.DEVNULL
                )
            )
            for _ in range(3)
        )
        for path in sorted((PROJECT_ROOT / "scripts").glob("*.py"))
    }
    slowest = max(helps, key=lambda name: helps[name])
    return [
        {
            "what": "make all with nothing to do, 1 000 clips",
            "unit": "s",
            "voxmake": round(statistics.median(made), 2),
            "limit": 1.0,
        },
        {"what": f"slowest --help ({slowest}.py)", "unit": "s", "voxmake": round(helps[slowest], 2), "limit": 0.5},
    ]
