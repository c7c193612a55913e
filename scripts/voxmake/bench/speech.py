"""Silences against pydub and ffmpeg; speakers against HDBSCAN."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from voxmake.bench.measuring import row, seconds
from voxmake.run.stage import PROJECT_ROOT


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
