"""Measure speed and memory against the usual way, side by side in one run, as ratios.

    make bench

Each row alternates voxmake with the way it replaces, on the same files, the same cores and to the
same output, and takes the median of the rounds. Read the ratios: seconds depend on the machine.
The table is printed and saved to reports/bench.json with machine and versions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from voxmake.bench import programme, units
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


# ---------------------------------------------------------------------------- the ways


def by_voxmake(clips: Path, work: Path) -> None:
    """The preprocess stage as `make` runs it: decoders in worker processes, journal, manifest, fsync."""
    stage("preprocess", clips, work)


def stage(name: str, clips: Path, work: Path) -> None:
    config = work / "bench.yaml"
    config.write_text(
        f"extends: {PROJECT_ROOT}/configs/base.yaml\nproject: bench\nstages: [preprocess]\n"
        f"collect: {{sources: [{{path: '{clips}'}}]}}\nexecution: {{progress: none}}\n",
        encoding="utf-8",
    )
    command = [sys.executable, PROJECT_ROOT / "scripts" / f"{name}.py", "--config", config]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env=os.environ | {"VOXMAKE_DATA": str(work)})


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


# ---------------------------------------------------------------------------- measuring


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


def silence(scratch: Path, rounds: int) -> list[dict]:
    """Finding the silences of 30 minutes, decoded and from a stereo MP3; memory for 10 minutes and 3 hours."""
    import imageio_ffmpeg
    import numpy as np
    import soundfile
    from pydub import AudioSegment
    from pydub.silence import detect_silence

    from voxmake.audio.decode import Decoded
    from voxmake.audio.probe import probe
    from voxmake.audio.silence import find_silences
    from voxmake.audio.spec import AudioSpec

    long, rate_hz = soundfile.read(PROJECT_ROOT / "data/demo/long/long.mp3", dtype="int16")
    minutes = {count: scratch / f"{count}min.wav" for count in (10, 30, 180)}
    for count, path in minutes.items():
        soundfile.write(path, np.resize(long, count * 60 * rate_hz), rate_hz)
    stereo = scratch / "30min.mp3"
    soundfile.write(stereo, np.resize(long, 30 * 60 * 44100)[:, None].repeat(2, axis=1), 44100, format="MP3")

    samples = np.resize(long, 30 * 60 * rate_hz)
    segment = AudioSegment(data=samples.tobytes(), sample_width=2, frame_rate=rate_hz, channels=1)
    found: dict[str, list] = {}

    def ours() -> None:
        found["ours"] = find_silences([samples], rate_hz, -40, 0.5).ranges

    def pydub() -> None:
        ranges = detect_silence(segment, 500, -40, seek_step=1)
        found["pydub"] = [(a * rate_hz // 1000, b * rate_hz // 1000) for a, b in ranges]

    def from_mp3() -> None:
        spec = AudioSpec(max_duration_s=7200)
        source = Decoded(stereo, spec, probe(stereo, spec))
        blocks = ((block * np.float32(32767)).astype(np.int16) for block in source)
        find_silences(blocks, source.sample_rate_hz, -40, 0.5)

    def silencedetect() -> None:
        binary = shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()
        command = [
            binary,
            "-nostdin",
            "-v",
            "error",
            "-i",
            stereo,
            "-af",
            "silencedetect=-40dB:d=0.5",
            "-f",
            "null",
            "-",
        ]
        subprocess.run(command, check=True, capture_output=True)

    decoded = [statistics.median(seconds(ours) for _ in range(3)), seconds(pydub)]
    if found["ours"] != found["pydub"]:
        raise SystemExit("bench: silences differ from pydub's")
    pairs = [(seconds(from_mp3), seconds(silencedetect)) for _ in range(rounds)]
    compressed = [statistics.median(column) for column in zip(*pairs, strict=True)]
    code = (
        "import sys; from pathlib import Path; from segment import Segment; "
        "from voxmake.audio.segmenting import Cutter; c = Cutter(Segment(method='silence')); p = Path(sys.argv[1]); "
        "sum(1 for _ in c.utterances(p, c.find(p)[0])); "
        "print(next(int(line.split()[1]) // 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    peaks_mb = [
        int(subprocess.check_output([sys.executable, "-c", code, path], cwd=PROJECT_ROOT / "scripts"))
        for path in (minutes[10], minutes[180])
    ]
    return [
        row("silences of 30 decoded minutes, same bounds", "s", decoded[0], "pydub, step 1 ms", decoded[1], 1 / decoded[0] * decoded[1]),
        row("silences of 30 minutes of stereo MP3", "s", compressed[0], "ffmpeg silencedetect", compressed[1], compressed[1] / compressed[0]),
        row("segment, peak memory, 3 hours", "MiB", peaks_mb[1], "itself: 10 minutes", peaks_mb[0], peaks_mb[1] / peaks_mb[0]),
    ]  # fmt: skip


def speakers() -> list[dict]:
    """18 377 embeddings of 120 speakers, count unknown: time, memory and agreement with the truth."""
    code = """
import sys, time, numpy as np
from sklearn.metrics import adjusted_rand_score
rng = np.random.default_rng(0)
# as measured on real voices: about 0.2 apart within a voice, 0.5 between two; sizes, spread and strays differ
centres = np.maximum(rng.standard_normal((120, 256)) + 0.6, 0)
centres /= np.linalg.norm(centres, axis=1, keepdims=True)
truth = rng.choice(120, 18377, p=rng.dirichlet(np.full(120, 1.5)))
spread = rng.standard_normal((len(truth), 256)) * 0.044 * rng.gamma(4, 0.25, (len(truth), 1))
vectors = np.maximum(centres[truth] + spread, 0)
vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
begun = time.perf_counter()
if sys.argv[1] == "hdbscan":
    from sklearn.cluster import HDBSCAN
    labels = HDBSCAN(min_cluster_size=5, copy=True).fit_predict(vectors)
else:
    from voxmake.speakers.cluster import cluster
    labels = cluster(vectors, "agglomerative", 0.32).labels
taken = time.perf_counter() - begun
peak = next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(taken, peak, adjusted_rand_score(truth, labels), len(set(labels) - {-1}))
"""
    measured = {}
    for way in ("voxmake", "hdbscan"):
        told = subprocess.check_output([sys.executable, "-c", code, way], cwd=PROJECT_ROOT / "scripts", text=True)
        measured[way] = [float(word) for word in told.split()]
    ours, usual = measured["voxmake"], measured["hdbscan"]
    against = "scikit-learn HDBSCAN"
    return [
        row("18 377 speaker embeddings, 120 speakers", "s", ours[0], against, usual[0], usual[0] / ours[0]),
        row("the same, peak memory", "MiB", ours[1], against, usual[1], usual[1] / ours[1]),
        row("the same, adjusted Rand index", "1", ours[2], against, usual[2], ours[2] / usual[2]),
        row("the same, speakers found", "", ours[3], against, usual[3], ours[3] / usual[3]),
    ]


def cpu_seconds(call, *args) -> float:
    """CPU time of this process and of those it waits for: what one core would need, however busy the machine is."""
    begun = os.times()
    call(*args)
    return sum(os.times()[:4]) - sum(begun[:4])


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


def main(argv: list[str] | None = None) -> int:
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument("--rounds", type=int, default=3, help="how often the ways alternate (default 3)")
    flags.add_argument(
        "--only",
        action="append",
        metavar="PART",
        help="measure preprocess, make, segment, diarize, quality, units or programme alone",
    )
    args = flags.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="voxmake-bench-") as folder:
        scratch = Path(folder)
        parts = {
            "preprocess": lambda: speed(scratch, args.rounds) + memory(scratch),
            "make": lambda: noop(scratch),
            "segment": lambda: silence(scratch, args.rounds),
            "diarize": speakers,
            "quality": lambda: quality(scratch, args.rounds),
            "units": lambda: units.rows(row),
            "programme": programme.rows,
        }
        rows = [line for name, part in parts.items() if not args.only or name in args.only for line in part()]
        fresh(scratch / "work")  # published runs are read-only; the folder must be removable
    print(f"{'what':<46} {'voxmake':>9} {'unit':<8} {'against':<38} {'usual':>8} {'ratio':>7}")
    for line in rows:
        against = line.get("against", f"limit {line.get('limit')}")
        print(
            f"{line['what']:<46} {line['voxmake']:>9} {line['unit']:<8} {against:<38} {line.get('usual', ''):>8} {line.get('ratio', ''):>7}"
        )
    report = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": CORES, "system": platform.platform(), "python": platform.python_version()},
        "rows": rows,
    }
    path = PROJECT_ROOT / "reports" / "bench.json"
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"saved to {path.relative_to(PROJECT_ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
