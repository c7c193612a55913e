"""encode_units.py from the command line: what it writes, its scores, and the same bytes however it is run."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from conftest import ROOT, voice

NAMES = ("kmeans.safetensors", "kmeans.json", "corpus_timestamped.json", "all_units_for_bpe.txt", "units.csv")


def script(project, name, *flags, expect=0, data="data", **more):
    command = [sys.executable, ROOT / f"scripts/{name}.py", "--config", project / "x.yaml", *flags]
    environment = os.environ | {"VOXMAKE_DATA": str(project / data)} | more.pop("env", {})
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **more)
    assert done.returncode == expect, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Collected and preprocessed: ten clips, one of them without a single frame of features; no transcripts."""
    folder = tmp_path_factory.mktemp("speech")
    (folder / "recordings").mkdir()
    for number in range(10):
        seconds = 0.02 if number == 3 else 1 + 0.05 * number
        soundfile.write(folder / f"recordings/c{number}.wav", voice(seconds, seed=number), 16000, subtype="PCM_16")
    (folder / "x.yaml").write_text(
        f"extends: {ROOT / 'configs/base.yaml'}\nproject: test\nstages: [encode_units]\n"
        f"collect: {{sources: [{{path: '{folder / 'recordings'}'}}]}}\nsegment: {{method: none}}\n"
        "audio: {min_duration_s: 0.01}\nunits: {clusters: 12}\n"
        "execution: {workers: 2, progress: none, max_rejected_ratio: 0.2}\n"
    )
    for name in ("collect", "preprocess", "encode_units"):
        script(folder, name)
    return folder


def result(project, data="data"):
    return (project / data / "projects/test/encode_units").resolve()


def stats(project):
    return {name: entry["value"] for name, entry in json.loads((result(project) / "stats.json").read_text()).items()}


def contents(path):
    return {name: (path / name).read_bytes() for name in NAMES}


def test_what_it_writes(speech):
    script(speech, "encode_units")
    path = result(speech)
    assert sorted(p.name for p in path.iterdir()) == sorted(
        [*NAMES, "processed_files.txt", "rejected.csv", "stats.json", "run.json", "run.log", "MANIFEST.sha256"]
    )
    corpus = json.loads((path / "corpus_timestamped.json").read_text())
    assert corpus["columns"] == ["unit", "start_s", "end_s"] and len(corpus["clips"]) == 9
    lines = [[int(unit) for unit in line.split()] for line in (path / "all_units_for_bpe.txt").read_text().splitlines()]
    files = (path / "processed_files.txt").read_text().splitlines()
    for clip, line, file in zip(corpus["clips"].values(), lines, files, strict=True):
        assert clip["file_name"] == file and clip["frames"] == len(line)
        # Runs tell the same as the frames, with times on the hop's grid and no gap.
        assert [unit for unit, start, end in clip["units"] for _ in range(round((end - start) / 0.02))] == line
        assert all(one[2] == next_[1] for one, next_ in zip(clip["units"], clip["units"][1:], strict=False))
        assert clip["units"][0][1] == 0 and clip["units"][-1][2] == round(0.02 * len(line), 6)
        assert all(one[0] != next_[0] for one, next_ in zip(clip["units"], clip["units"][1:], strict=False))
    with (path / "rejected.csv").open() as stream:
        assert [(row["id"], row["reason"]) for row in csv.DictReader(stream)] == [("c3", "no_frames")]
    found = stats(speech)
    assert found["items_in"] == 10 and found["items_out"] == 9
    assert found["frames"] == sum(map(len, lines))
    counts = np.bincount(np.concatenate(lines), minlength=12)
    shares = counts[counts > 0] / counts.sum()
    assert found["entropy"] == pytest.approx(-(shares * np.log2(shares)).sum(), abs=1e-3)
    assert found["dead_units"] == (counts == 0).sum()


def test_the_tokeniser_encodes_as_the_run_did(speech):
    sys.path.insert(0, str(ROOT / "scripts"))
    from voxmake.errors import BadInput
    from voxmake.units.tokeniser import open_tokeniser

    path = result(speech)
    tokeniser = open_tokeniser(path)
    files = (path / "processed_files.txt").read_text().splitlines()
    lines = (path / "all_units_for_bpe.txt").read_text().splitlines()
    clips = (speech / "data/projects/test/preprocess").resolve()
    samples, rate_hz = soundfile.read(clips / files[4], dtype="float32")
    assert " ".join(map(str, tokeniser.encode(samples, rate_hz))) == lines[4]
    other = speech / "other"
    other.mkdir()
    for name in NAMES[:2]:
        (other / name).write_bytes((path / name).read_bytes())
    facts = json.loads((other / "kmeans.json").read_text())
    facts["features"]["cmvn"] = "none"
    (other / "kmeans.json").write_text(json.dumps(facts))
    with pytest.raises(BadInput, match="don't belong together"):
        open_tokeniser(other)


def test_same_bytes_with_one_worker_and_after_a_kill(speech):
    whole = contents(result(speech))
    for name in ("collect", "preprocess"):
        script(speech, name, data="one")
    # Killed at the second checkpoint of k-means, in the script itself; the next run goes on from there.
    program = (
        "import os, signal, sys, encode_units; from voxmake.nets.checkpoint import Checkpoint\n"
        "save = Checkpoint.save; saves = []\n"
        "def deadly(self, *state):\n"
        "    save(self, *state); saves.append(1)\n"
        "    len(saves) == 2 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "Checkpoint.save = deadly\n"
        "encode_units.main(sys.argv[1:])\n"
    )
    flags = ("--config", speech / "x.yaml", "--set", "execution.workers=1")
    environment = os.environ | {"VOXMAKE_DATA": str(speech / "one"), "PYTHONPATH": str(ROOT / "scripts")}
    command = [sys.executable, "-c", program, *flags, "--set", "execution.checkpoint_every_s=0"]
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == -signal.SIGKILL
    told = script(speech, "encode_units", *flags[2:], data="one")
    assert "k-means goes on at step" in told and "9 of 9 clips are done already" in told
    assert contents(result(speech, "one")) == whole


def test_phone_labels(speech):
    """Labels that are the units themselves are told whole; boundaries then fall together."""
    corpus = json.loads((result(speech) / "corpus_timestamped.json").read_text())
    rows = ["id,start_s,end_s,phone"]
    for name, clip in corpus["clips"].items():
        rows += [f"{name},{start + 0.0025},{end + 0.0025},p{unit}" for unit, start, end in clip["units"]]
    labels = speech / "labels.csv"
    labels.write_text("\n".join(rows) + "\n")
    flags = ("--set", f"units.phone_labels={labels}")
    script(speech, "encode_units", *flags)
    found = stats(speech)
    assert found["pnmi"] == found["phone_purity"] == found["boundary_f1"] == found["boundary_r_value"] == 1.0
    assert found["labelled_clips"] == 9
    labels.write_text("id,start_s,end_s,phone\nc1,0.5,0.4,a\n")
    assert "labels.csv:2: needs 0 <= start_s < end_s" in script(speech, "encode_units", *flags, expect=65)
    labels.write_text("id,start_s,end_s,phone\nnobody,0.1,0.4,a\n")
    assert "none of its 1 ids" in script(speech, "encode_units", *flags, expect=65)


def test_scikit_learn_export_on_request(speech):
    import joblib

    before = time.time()
    script(speech, "encode_units", "--export-sklearn", speech / "kmeans.joblib")
    model = joblib.load(speech / "kmeans.joblib")
    assert (speech / "kmeans.joblib").stat().st_mtime >= before - 2
    assert model.cluster_centers_.shape == (12, 39)
    assert model.predict(model.cluster_centers_).tolist() == list(range(12))


def test_a_transformers_model_in_batches_gives_the_units_of_single_clips(speech, tmp_path):
    sys.path.insert(0, str(ROOT / "tests/units"))
    from test_features import save_model

    save_model(tmp_path / "model", "Wav2Vec2", "layer", True)
    flags = ["units.engine=transformers", f"units.model={tmp_path / 'model'}", "units.layer=3", "execution.workers=1"]
    lines = set()
    for batch in (1, 8):
        settings = [f for key in [*flags, f"execution.batch_size={batch}"] for f in ("--set", key)]
        path = tmp_path / f"batch{batch}"
        script(speech, "encode_units", *settings, "--output", path)
        assert len((path / "processed_files.txt").read_text().splitlines()) == 9
        lines.add((path / "all_units_for_bpe.txt").read_text())
        tokeniser = json.loads((path / "kmeans.json").read_text())
        assert tokeniser["dims"] == 16 and "hidden_states[layer]" in tokeniser["convention"]["layer_convention"]
    assert len(lines) == 1


def test_too_little_speech_is_said(speech):
    told = script(speech, "encode_units", "--limit", "1", "--set", "units.clusters=1000", expect=65)
    assert "49 frames are too few for 1000 units; lower units.clusters" in told
    assert "needs it" in script(speech, "encode_units", "--set", "units.engine=transformers", expect=2)
