"""What every part of the benchmark shares: recordings, clocks, memory, rows of the table."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from voxmake.run.stage import PROJECT_ROOT

CORES = len(os.sched_getaffinity(0))
RATE_HZ, TARGET_DB = 16000, -20.0  # the output that every way has to make: mono, 16 bit, this rate and RMS level


def make_clips(folder: Path, count: int) -> list[Path]:
    """`count` clips of 3 to 15 s in WAV, MP3, FLAC and Ogg, 22.05 to 48 kHz, cut together from the demo corpus."""
    import numpy as np
    import soundfile
    import soxr

    sources = sorted((PROJECT_ROOT / "data/demo/recordings").glob("**/*.flac"))
    speech = np.concatenate([soundfile.read(path, dtype="float32", always_2d=True)[0].mean(axis=1) for path in sources])
    rate_in = soundfile.info(sources[0]).samplerate
    chosen = random.Random(1)
    made: dict[int, np.ndarray] = {}
    paths = []
    (folder / "audio").mkdir(parents=True)
    for number in range(count):
        rate = chosen.choice([22050, 44100, 48000])
        if rate not in made:
            made[rate] = soxr.resample(speech, rate_in, rate)
        length = int(chosen.uniform(3, 15) * rate)
        start = chosen.randrange(len(made[rate]) - length)
        suffix = ("wav", "mp3", "flac", "ogg")[number % 4]
        path = folder / "audio" / f"clip{number:05}.{suffix}"
        soundfile.write(path, made[rate][start : start + length], rate)
        paths.append(path)
    rows = [f"audio/{path.name},Sentence {number}." for number, path in enumerate(paths)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,transcription", *rows]) + "\n", encoding="utf-8")
    return paths


def stage(name: str, clips: Path, work: Path) -> None:
    config = work / "bench.yaml"
    config.write_text(
        f"extends: {PROJECT_ROOT}/configs/base.yaml\nproject: bench\nstages: [preprocess]\n"
        f"collect: {{sources: [{{path: '{clips}'}}]}}\nexecution: {{progress: none}}\n",
        encoding="utf-8",
    )
    command = [sys.executable, PROJECT_ROOT / "scripts" / f"{name}.py", "--config", config]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env=os.environ | {"VOXMAKE_DATA": str(work)})


def seconds(call, *args) -> float:
    begun_s = time.perf_counter()
    call(*args)
    return time.perf_counter() - begun_s


def fresh(folder: Path) -> Path:
    if folder.exists():
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)  # noqa: S607 - published runs are read-only
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def cpu_seconds(call, *args) -> float:
    """CPU time of this process and of those it waits for: what one core would need, however busy the machine is."""
    begun = os.times()
    call(*args)
    return sum(os.times()[:4]) - sum(begun[:4])


def row(what: str, unit: str, ours: float, against: str, usual: float, ratio: float) -> dict:
    """One line of the table."""
    return {
        "what": what,
        "unit": unit,
        "voxmake": float(f"{ours:.3g}"),
        "against": against,
        "usual": float(f"{usual:.3g}"),
        "ratio": float(f"{ratio:.3g}"),
    }


def peak_memory_mb(call, *args) -> float:
    """Largest sum of proportional set sizes (shared pages counted once) of our child processes, in MiB."""
    peak, stop = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.05):
            peak = max(peak, sum(pss_bytes(pid) for pid in descendants(os.getpid())))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        call(*args)
    finally:
        stop.set()
        watcher.join()
    return peak / 2**20


def descendants(pid: int) -> list[int]:
    children = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += [int(child) for child in task.read_text().split()]
        except OSError:
            continue  # that thread has ended
    return children + [grandchild for child in children for grandchild in descendants(child)]


def pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # the process has ended
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
