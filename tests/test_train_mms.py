"""train_mms.py from the command line: what it writes, who opens it, a kill, several processes, sizes it refuses."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path

import pytest

import train_mms

sys.path.insert(0, str(Path(__file__).parent / "vits"))

from conftest import ROOT
from made_datasets import dataset
from overfit import overfit


def command(flags, output, *more):
    return [sys.executable, str(ROOT / "scripts/train_mms.py"), *flags, "--output", str(output), *more]


def train(flags, output, *more, expect=0):
    """Run the script's main here: torch is imported once."""
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()) as said:
        patch.setenv("VOXMAKE_DATA", str(output.parent / "data"))
        code = train_mms.main([*flags, "--output", str(output), *more])
    assert code == expect, said.getvalue()
    return said.getvalue()


@pytest.fixture(autouse=True, scope="module")
def torch_as_it_was():
    import torch

    threads = torch.get_num_threads()
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A mini training; clip 4 was not passed by whisper_validate, clip 1 is too short for a segment."""
    folder = tmp_path_factory.mktemp("mms")
    flags = [*dataset(folder, failed=("clip004",), duration_s=[1.0, 0.2]), "--set", "execution.max_rejected_ratio=0.2"]
    said = train(flags, folder / "whole")
    return folder, flags, said


def test_what_it_writes(trained):
    folder, _, said = trained
    whole = folder / "whole"
    rejected = {row["id"]: row for row in csv.DictReader((whole / "rejected.csv").open())}
    assert {key: row["reason"] for key, row in rejected.items()} == {
        "clip001": "shorter_than_segment", "clip004": "not_validated"
    }  # fmt: skip
    assert "clip001 (metadata.csv:3)" in said and "join it with its neighbour" in said, "row and remedy"
    told = json.loads((whole / "training_log.json").read_text())
    assert [entry["step"] for entry in told["log"]] == list(range(1, 9))
    assert [entry["step"] for entry in told["evaluations"]] == [0, 4, 8]
    assert told["log"][0]["lr"] < told["log"][1]["lr"] == 2e-3, "the learning rate warms up"
    assert told["log"][-1]["lr"] < 2e-3, "and decays"
    record = json.loads((whole / "run.json").read_text())
    assert record["gate"]["verdict"] == "PASS"
    assert {check["name"] for check in record["gate"]["checks"]} == {
        "level_min", "duration_ratio_max", "validation_mel_ratio"
    }  # fmt: skip
    rows = list(csv.DictReader((whole / "samples.csv").open()))
    assert [row["text"] for row in rows] == ["a green garden", "the seven stones"]
    assert all(row["cer"] and row["similarity"] for row in rows)
    lines = [line.split("train_mms: ", 1)[1] for line in said.splitlines() if ": step 0" in line]
    assert len({tuple(n for n, c in enumerate(line) if c == "|") for line in lines}) == 1, "one width"
    for name in ("plots/curves.png", "tensorboard/events.out.tfevents.0000000000.voxmake", "model/model.onnx"):
        assert (whole / name).is_file()
    assert not (whole / "training").exists()


def test_transformers_opens_it(trained):
    from transformers import pipeline

    folder, _, _ = trained
    spoken = pipeline("text-to-speech", model=str(folder / "whole" / "model"))("the seven stones")
    assert spoken["sampling_rate"] == 16000 and spoken["audio"].size > 256


def test_killed_and_resumed_gives_the_same(trained):
    folder, flags, _ = trained
    environment = os.environ | {"VOXMAKE_DATA": str(folder / "data")}
    output = folder / "killed"
    running = subprocess.Popen(command(flags, output), stderr=subprocess.PIPE, text=True, env=environment)
    for line in running.stderr:
        if "step 0000005/" in line:
            running.send_signal(signal.SIGKILL)
            break
    running.wait()
    assert not output.exists()
    said = train(flags, output)
    assert "resumed at step 4" in said
    for name in ("training_log.json", "samples.csv", "model/model.safetensors", "model/model.onnx", "MANIFEST.sha256",
                 "tensorboard/events.out.tfevents.0000000000.voxmake"):  # fmt: skip
        assert (output / name).read_bytes() == (folder / "whole" / name).read_bytes(), name


def test_a_voice_is_the_base_of_the_next(trained):
    folder, flags, _ = trained
    flags = [*flags, "--set", f"train_mms.base_model={folder / 'whole' / 'model'}", "--set", "train_mms.max_steps=1"]
    flags += ["--set", "train_mms.batch_size=null"]
    said = train([*flags, "--set", "train_mms.gate_loss_ratio=0.0001"], folder / "tuned", expect=1)
    assert "found from free memory" in said
    assert "gate FAIL: validation_mel_ratio" in said, "a gate that fails says so, and the outputs are there"
    first = json.loads((folder / "tuned" / "training_log.json").read_text())["evaluations"][0]
    last = json.loads((folder / "whole" / "training_log.json").read_text())["evaluations"][-1]
    assert first["mel"] == pytest.approx(last["mel"], abs=1e-3), "it begins where the other ended"


def test_sizes_are_checked_before(tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    flags = dataset(few, train=2, validation=1)
    assert "2 clips to train on, a batch needs 3" in train(flags, few / "out", expect=65)
    none = tmp_path / "none"
    none.mkdir()
    flags = dataset(none, train=4, validation=0)
    assert "raise dataset.validation_ratio" in train(flags, none / "out", expect=65)


def test_a_sentence_that_nobody_can_speak(trained, tmp_path):
    _, flags, _ = trained
    said = train([*flags, "--set", "train_mms.sentences=['123']"], tmp_path / "out", expect=2)
    assert "the voice knows no character of ['123']" in said


def test_a_base_of_another_rate_is_refused(trained, tmp_path):
    folder, _, _ = trained
    flags = dataset(tmp_path, train=4, validation=1, rate_hz=22050)
    flags += ["--set", f"train_mms.base_model={folder / 'whole' / 'model'}"]
    assert "set audio.sample_rate_hz to 16000" in train(flags, tmp_path / "out", expect=2)


@pytest.mark.slow
def test_two_processes_train_one_voice(trained):
    folder, flags, _ = trained
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"VOXMAKE_DATA": str(folder / "data")}
    done = subprocess.run(
        [*torchrun, *command(flags, folder / "two")[1:]], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((folder / name / "training_log.json").read_text()) for name in ("whole", "two"))
    assert [entry["step"] for entry in two["log"]] == [entry["step"] for entry in one["log"]]
    # Other noise, the same clips: the same curve within a tolerance.
    assert two["evaluations"][-1]["mel"] == pytest.approx(one["evaluations"][-1]["mel"], rel=0.2)


@pytest.mark.slow
def test_four_clips_are_learnt(real, tmp_path):
    """Losses fall; plots of them and of the alignment in the test's folder."""
    from voxmake.vits.plots import alignments, curves
    from voxmake.vits.trainer import LOSSES

    begun = time.monotonic()
    trainer, before, after = overfit(real / "ljspeech_en", tmp_path, 300)
    (tmp_path / "curves.png").write_bytes(curves(trainer.log, trainer.evaluations, LOSSES))
    (tmp_path / "alignments.png").write_bytes(alignments([("before", before[0]), ("after", after[0])]))
    print(f"{time.monotonic() - begun:.0f} s; {tmp_path}")
    first, last = trainer.evaluations[0], trainer.evaluations[-1]
    assert last["mel"] < 0.17 * first["mel"], "log-mel distance of the rebuilt clips"
    assert last["kl"] < 0.2 * first["kl"]
