"""The demo corpus is what its README says."""

import csv
from collections import Counter

import pytest
from conftest import ROOT

from voxmake.audio.spec import AudioSpec
from voxmake.audio.standardise import standardise
from voxmake.errors import Rejected
from voxmake.run.run import read_table

DEMO = ROOT / "data" / "demo"

BROKEN = {
    "header_only.wav": "no_samples", "missing.wav": "missing_file", "not_a_number.wav": "not_finite",
    "playlist.wav": "not_audio", "random_bytes.wav": "not_audio", "silence.wav": "silent",
    "cut_short.mp3": "truncated", "truncated.wav": "truncated", "zero_bytes.wav": "empty_file",
}  # fmt: skip


def test_it_is_small_and_complete():
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < 8e6
    rows = read_table(DEMO / "recordings" / "metadata.csv")
    named = {row["file_name"] for row in rows} - {"broken/missing.wav"}
    there = {path.relative_to(DEMO / "recordings").as_posix() for path in DEMO.glob("recordings/*/*")}
    assert named == there
    sentences = (DEMO / "sentences.txt").read_text().splitlines()
    assert len(sentences) == len(set(sentences)) == 100
    assert all(4 <= len(text.split()) <= 16 for text in sentences)


def test_good_clips_are_good_and_broken_ones_broken():
    seconds, formats, reasons = Counter(), Counter(), {}
    for row in read_table(DEMO / "recordings" / "metadata.csv"):
        try:
            _, measured = standardise(DEMO / "recordings" / row["file_name"], AudioSpec())
        except Rejected as rejection:
            reasons[row["file_name"].removeprefix("broken/")] = rejection.reason
            continue
        assert 1 <= measured["duration_s"] <= 15
        seconds[row["speaker_id"]] += measured["duration_s"]
        formats[measured["source_format"].partition("/")[0]] += 1
    assert reasons == BROKEN
    assert set(seconds) == {"slt", "rms", "awb", "kal16"}
    assert 5 <= sum(seconds.values()) / 60 <= 8
    assert set(formats) == {"flac", "mp3", "matroska", "wav"}


def test_the_reference_of_the_long_recording_fits_it():
    _, measured = standardise(DEMO / "long" / "long.mp3", AudioSpec())
    with (DEMO / "long" / "long.reference.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    ends = [0.0]
    for row in rows:
        start_s, end_s = float(row["start_s"]), float(row["end_s"])
        assert start_s - ends[-1] >= 0.29
        assert end_s - start_s == pytest.approx(2.8, abs=2.2)
        ends.append(end_s)
    assert 120 < ends[-1] < measured["duration_s"] < 200
    assert {row["speaker"] for row in rows} == {"slt", "rms"}
