"""discover_motifs.py from the command line, on units made by hand: what it writes, and that it is true."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from conftest import ROOT, voice
from sentencepiece import SentencePieceProcessor

import encode_units
import preprocess
from voxmake.run.run import csv_text
from voxmake.run.store import WorkDir
from voxmake.units.corpus import write_corpus
from voxmake.units.features import Grid

HOP_S = 0.02
SILENCE = 7


def clip_units(number: int) -> np.ndarray:
    """Twice a pause, the planted motif 1 2 3, noise of the units 4 to 6; each lasts one to three frames."""
    rng = np.random.default_rng(number)
    symbols = np.concatenate([[SILENCE, 1, 2, 3, *rng.integers(4, 7, 6)] for _ in range(2)] + [[SILENCE]])
    return np.repeat(symbols, rng.integers(1, 4, len(symbols)))


def publish(folder, stage, files):
    work = WorkDir(folder)
    for name, content in files.items():
        path = work.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (work.path / "run.json").write_text(json.dumps({"identity": {"stage": stage.name, "version": stage.version}}))
    work.publish(files, {}, "made by a test")


class Fake:
    """What encode_units.write_corpus wants of a run: a folder and files in it."""

    def __init__(self, path):
        self.path = path
        path.mkdir()

    def add_file(self, name):
        assert (self.path / name).is_file()

    def write_text(self, name, text):
        (self.path / name).write_text(text)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Published runs of preprocess and encode_units: 12 clips of two speakers."""
    folder = tmp_path_factory.mktemp("motifs")
    units = {f"c{number:02}": clip_units(number) for number in range(12)}
    clips, audio = [], {}
    for number, (name, own) in enumerate(units.items()):
        file = f"audio/{name}.wav"
        samples = voice(len(own) * HOP_S + 0.005, seed=number)
        soundfile.write(folder / "clip.wav", samples, 16000, subtype="PCM_16")
        audio[file] = (folder / "clip.wav").read_bytes()
        clips.append({"id": name, "file_name": file, "frames": len(own), "speaker": ("ann", "ben")[number % 2]})
    table = csv_text(preprocess.COLUMNS, ([row.get(c, "") for c in preprocess.COLUMNS] for row in clips))
    publish(folder / "preprocess", preprocess.STAGE, {"metadata.csv": table} | audio)
    fake = Fake(folder / "fake")
    write_corpus(fake, clips, units, Grid(320, 400), "0" * 64)
    counts = np.bincount(np.concatenate(list(units.values())), minlength=9)
    rows = [[u, counts[u], 0, 0, 0, "" if counts[u] == 0 else -60 if u == SILENCE else -20] for u in range(9)]
    files = {path.name: path.read_bytes() for path in fake.path.iterdir()}
    publish(
        folder / "encode_units", encode_units.STAGE, files | {"units.csv": csv_text(encode_units.UNIT_COLUMNS, rows)}
    )
    (folder / "x.yaml").write_text(
        f"extends: {ROOT / 'configs/base.yaml'}\nproject: test\nstages: [discover_motifs]\nsegment: {{method: none}}\n"
        "motifs: {vocab_size: 30, sweep: [12, 30], example_motifs: 2, examples_each: 3}\n"
    )
    return folder, units


def discover(made, name, *flags, expect=0):
    """Run it into a folder of this name; returns the folder and what it said."""
    folder, _ = made
    inputs = ("--input", f"encode_units={folder / 'encode_units'}", "--input", f"segment={folder / 'preprocess'}")
    command = [sys.executable, ROOT / "scripts/discover_motifs.py", "--config", folder / "x.yaml", *inputs]
    environment = os.environ | {"VOXMAKE_DATA": str(folder / "data")}
    command += ["--output", folder / name, *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == expect, done.stderr
    return folder / name, done.stderr


def test_motifs_and_where_they_are(made):
    _, units = made
    path, _ = discover(made, "one")
    analysis = json.loads((path / "motif_analysis.json").read_text())
    assert analysis["silent_units"] == [SILENCE] and analysis["tokeniser"] == "0" * 64
    assert not any(SILENCE in motif["units"] for motif in analysis["motifs"])
    planted = [motif for motif in analysis["motifs"] if motif["units"][:3] == [1, 2, 3]]
    assert sum(motif["count"] for motif in planted) == 24 and planted[0]["speakers"] == 2
    with (path / "occurrences.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    of_motif = {motif["motif"]: motif for motif in analysis["motifs"]}
    for row in rows:
        first, last = round(float(row["start_s"]) / HOP_S), round(float(row["end_s"]) / HOP_S)
        own = units[row["clip"]][first:last]
        assert own[np.concatenate([[True], np.diff(own) != 0])].tolist() == of_motif[row["motif"]]["units"]
    for motif in analysis["motifs"]:
        own = [row for row in rows if row["motif"] == motif["motif"]]
        seconds = [float(row["end_s"]) - float(row["start_s"]) for row in own]
        assert len(own) == motif["count"] and len({row["clip"] for row in own}) == motif["clips"]
        assert np.mean(seconds) == pytest.approx(motif["duration_mean_s"], abs=1e-3)
    compression = analysis["compression"]
    assert compression["raw_to_bpe"] == pytest.approx(
        compression["raw_to_joined"] * compression["joined_to_bpe"], rel=1e-3
    )
    assert compression["raw_to_bpe"] > 2.5 and compression["joined_to_bpe"] > 1.3
    frames = sum(map(len, units.values()))
    assert compression["raw_to_bpe"] == pytest.approx(frames / analysis["vocabulary"]["tokens"], abs=1e-3)


def test_model_and_vocab_are_sentencepieces(made):
    path, _ = discover(made, "two")
    model = SentencePieceProcessor(model_file=str(path / "motifs.model"))
    lines = (path / "motifs.vocab").read_text().splitlines()
    assert len(lines) == model.get_piece_size() <= 30
    for number, line in enumerate(lines[1:], start=1):
        piece, score, units = line.split("\t")
        assert piece == model.id_to_piece(number) and float(score) == model.get_score(number)
        assert [ord(char) - 0x4E00 for char in piece] == [int(unit) for unit in units.split()]


def test_examples_are_cut_where_they_say(made):
    folder, _ = made
    path, _ = discover(made, "three")
    described = json.loads((path / "examples.json").read_text())
    assert len(described) == 2 and all(len(motif["examples"]) == min(3, motif["count"]) for motif in described)
    for example in (example for motif in described for example in motif["examples"]):
        cut, rate_hz = soundfile.read(path / example["file"], dtype="int16")
        whole, _ = soundfile.read(folder / f"preprocess/audio/{example['clip']}.wav", dtype="int16")
        begin = round((example["start_s"] - example["starts_in_file_s"]) * rate_hz)
        np.testing.assert_array_equal(cut, whole[begin : begin + len(cut)])
        assert example["starts_in_file_s"] <= 0.15
        assert len(cut) / rate_hz >= example["end_s"] - example["start_s"]


def test_same_bytes_again(made):
    one, _ = discover(made, "again1")
    other, _ = discover(made, "again2", "--set", "execution.workers=1")
    assert (one / "MANIFEST.sha256").read_text() == (other / "MANIFEST.sha256").read_text()
    assert "sweep.png" in (one / "MANIFEST.sha256").read_text()


def test_small_data_lower_the_vocabulary_and_say_so(made):
    path, told = discover(made, "small", "--set", "motifs.vocab_size=5000", "--set", "motifs.sweep=[]")
    analysis = json.loads((path / "motif_analysis.json").read_text())
    assert (
        f"motifs.vocab_size 5000 became {analysis['vocabulary']['size']}: further pairs occur fewer than 2 times"
        in told
    )
    assert not (path / "sweep.csv").exists()


def test_raw_units_across_silences(made):
    flags = ("--set", "motifs.runs=raw", "--set", "motifs.bound_by_silence=false", "--set", "motifs.vocab_size=60")
    path, _ = discover(made, "raw", *flags)
    analysis = json.loads((path / "motif_analysis.json").read_text())
    assert any(SILENCE in motif["units"] for motif in analysis["motifs"])
    assert all(motif["duration_min_s"] == motif["duration_max_s"] for motif in analysis["motifs"])
    assert analysis["compression"]["raw_to_bpe"] > 2


def test_nothing_but_silence_is_said(made):
    folder, _ = made
    files = {path.name: path.read_bytes() for path in (folder / "fake").iterdir()}
    rows = [[unit, 1 if unit == 8 else 1000, 0, 0, 0, -10 if unit == 8 else -60 - unit] for unit in range(9)]
    rows[8][1] = 100_000
    publish(
        folder / "quiet_units/encode_units",
        encode_units.STAGE,
        files | {"units.csv": csv_text(encode_units.UNIT_COLUMNS, rows)},
    )
    flags = ("--input", f"encode_units={folder / 'quiet_units/encode_units'}")
    _, told = discover(made, "quiet", *flags, expect=65)
    assert "no unit lies above silence; lower motifs.silence_drop_db" in told and "Traceback" not in told
