"""segment.py: long recordings to utterances that map back to the original, sample by sample."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from conftest import ROOT

RATE = 16000


def run(project, *flags, expect=0):
    command = [sys.executable, ROOT / "scripts/segment.py", "--config", project / "x.yaml", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr
    return done.stderr


def make_input(project, *flags):
    for name in ("collect", "preprocess"):
        command = [sys.executable, ROOT / f"scripts/{name}.py", "--config", project / "x.yaml", *flags]
        subprocess.run(command, check=True, capture_output=True)


def result(project):
    path = (project / "data/projects/test/segment").resolve()
    with (path / "metadata.csv").open(newline="") as stream:
        return path, list(csv.DictReader(stream))


@pytest.fixture
def long(project):
    """A config that cuts, one long recording without a transcript, and the clips with theirs."""
    folder = project / "long"
    folder.mkdir()
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal(RATE) * 1e-4]
    for seconds in (2.0, 3.0, 2.5):
        t = np.arange(round(seconds * RATE)) / RATE
        parts += [0.1 * np.sin(2 * np.pi * 220 * t), rng.standard_normal(round(0.8 * RATE)) * 1e-4]
    soundfile.write(folder / "talk.wav", np.concatenate(parts), RATE, subtype="PCM_16")
    text = (project / "x.yaml").read_text().replace("stages: [preprocess]", "stages: [segment]")
    text = text.replace("]}\n", f", {{path: '{folder}', format: folder}}]}}\nsegment: {{method: silence}}\n", 1)
    (project / "x.yaml").write_text(text)
    return project


def test_clips_map_back_to_the_original(long):
    make_input(long)
    run(long)
    path, rows = result(long)
    cut = [row for row in rows if row["recording"] == "talk"]
    lengths_s = [float(row["end_s"]) - float(row["start_s"]) for row in cut]
    assert lengths_s == pytest.approx([2.2, 3.2, 2.7], abs=0.03)
    source = long / "data/projects/test/preprocess/audio/talk.wav"
    original, _ = soundfile.read(source, dtype="int16")
    for row in cut:
        clip, rate_hz = soundfile.read(path / row["file_name"], dtype="int16")
        start = round(float(row["start_s"]) * rate_hz)
        assert np.array_equal(clip, original[start : start + len(clip)])
        assert row["id"] == f"talk_{round(float(row['start_s']) * 1000):08}"
        assert not row["transcription"]


def test_times_are_the_originals_where_preprocess_trimmed(long):
    text = (long / "x.yaml").read_text() + "audio: {trim_silence: true, trim_threshold_db: -40}\n"
    (long / "x.yaml").write_text(text)
    make_input(long)
    run(long)
    cut = [row for row in result(long)[1] if row["recording"] == "talk"]
    assert float(cut[0]["start_s"]) == pytest.approx(0.95, abs=0.06)
    assert float(cut[1]["start_s"]) == pytest.approx(3.7, abs=0.06)


def test_recordings_with_a_transcript_are_never_cut(long):
    make_input(long)
    run(long)
    path, rows = result(long)
    clips = [row for row in rows if row["transcription"]]
    assert len(clips) == 6
    for row in clips:
        source = long / "data/projects/test/preprocess" / row["file_name"]
        assert (path / row["file_name"]).read_bytes() == source.read_bytes()
        assert (row["recording"], float(row["start_s"])) == (row["id"], 0.0)


def test_a_recording_without_speech_is_rejected(long):
    soundfile.write(long / "long/hum.wav", np.sin(np.arange(RATE * 3) * 0.1) * 0.3, RATE, subtype="PCM_16")
    make_input(long, "--set", "audio.normalize=false")
    told = run(
        long,
        "--set",
        "audio.normalize=false",
        "--set",
        "segment.threshold_db=-1",
        "--set",
        "execution.max_rejected_ratio=0.5",
    )
    assert "hum rejected: no_speech" in told


def test_none_uses_the_clips_of_preprocess(long):
    make_input(long)
    assert "preprocess/" in run(long, "--set", "segment.method=none")
    assert not (long / "data/runs/segment").exists()


def test_lengths_that_contradict_each_other_are_refused(long):
    stderr = run(long, "--set", "segment.min_duration_s=5", expect=2)
    assert "max_duration_s must be at least 4 times min_duration_s" in stderr


def test_killed_and_resumed_gives_the_same_bytes(long):
    make_input(long)
    run(long)
    path, _ = result(long)
    manifest = (path / "MANIFEST.sha256").read_bytes()
    assert run(long).count("nothing to do") == 1
    subprocess.run(["chmod", "-R", "u+w", path], check=True)
    shutil.rmtree(path)
    run(long, "--set", "execution.workers=1")
    assert (path / "MANIFEST.sha256").read_bytes() == manifest
    stats = json.loads((path / "stats.json").read_text())
    assert stats["segments"]["value"] == 9


def test_voice_activity_finds_speech_in_noise(real, tmp_path):
    """Silero, on real speech between noise that is louder than any silence threshold."""
    from segment import Segment
    from voxmake.audio.segmenting import Cutter

    speech, rate_hz = soundfile.read(
        real / "librivox_austen/sense_and_sensibility_01_austen_64kb-0870.wav", dtype="float32"
    )
    rng = np.random.default_rng(1)
    noise = 0.01 * rng.standard_normal(3 * rate_hz).astype(np.float32)
    soundfile.write(
        tmp_path / "a.wav", np.concatenate([noise, speech, noise, speech, noise]), rate_hz, subtype="PCM_16"
    )
    cutter = Cutter(Segment(method="vad"))
    segments, _ = cutter.find(tmp_path / "a.wav")
    starts = [a / rate_hz for a, _ in segments]
    ends = [b / rate_hz for _, b in segments]
    seconds = len(speech) / rate_hz
    assert min(abs(start - 3) for start in starts) < 0.5
    assert min(abs(start - 6 - seconds) for start in starts) < 0.5
    assert all(2.5 < start < 3.2 + seconds or 5.5 + seconds < start < 6.2 + 2 * seconds for start in starts)
    assert abs(max(ends) - (6 + 2 * seconds)) < 0.7
