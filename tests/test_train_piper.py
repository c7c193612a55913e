"""train_piper.py: trained in its own environment, killed, started from checkpoints; and heard by piper itself."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import wave
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "vits"))

from conftest import ROOT
from made_datasets import dataset

PYTHON = Path(os.environ.get("VOXMAKE_ENVS") or ROOT / ".venv").absolute() / "piper" / "bin" / "python"
KEYS = (
    "{mode: mini, mini_epochs: 2, quality: small, batch_size: 3, segment_samples: 4096, learning_rate: 1e-3, logging_steps: 1,"
    " discriminator_width: 0.05, min_free_disk_gb: 0, sentences: [a green garden, the seven stones],"
    " gate_min_level_db: -120, gate_duration_ratio: 1000, gate_loss_ratio: 2}"
)


@pytest.fixture(scope="module")
def python():
    if not PYTHON.is_file():
        pytest.skip(f"no environment {PYTHON.parents[1]}: python3 docker/setup.py --env piper")
    return PYTHON


def command(python, flags, output, *more):
    return [str(python), str(ROOT / "scripts/train_piper.py"), *flags, "--output", str(output), *more]


def train(python, flags, output, *more, expect=0):
    environment = os.environ | {"VOXMAKE_DATA": str(output.parent / "data")}
    done = subprocess.run(
        command(python, flags, output, *more), capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == expect, done.stderr
    return done.stderr


def prepared(folder, **facts):
    flags = dataset(folder, train=8, validation=2, **facts)
    with (folder / "x.yaml").open("a") as config:
        config.write(f"train_piper: {KEYS}\n")
    return flags


def test_without_its_environment_it_says_so(tmp_path):
    if PYTHON.is_file() and Path(sys.executable).parents[1] == PYTHON.parents[1]:
        pytest.skip("this is the environment")
    flags = prepared(tmp_path)
    said = train(sys.executable, flags, tmp_path / "out", expect=70)
    assert "docker/setup.py --env piper" in said and "Traceback" not in said


@pytest.fixture(scope="module")
def trained(python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("piper")
    flags = [*prepared(folder, duration_s=[1.5, 0.2]), "--set", "execution.max_rejected_ratio=0.2"]
    return folder, flags, train(python, flags, folder / "whole")


@pytest.mark.slow
def test_what_it_writes(trained):
    folder, _, said = trained
    whole = folder / "whole"
    assert [row["reason"] for row in csv.DictReader((whole / "rejected.csv").open())] == ["shorter_than_segment"]
    told = json.loads((whole / "training_log.json").read_text())
    assert [entry["epoch"] for entry in told["evaluations"]] == [0, 1]
    config = json.loads((whole / "model" / "model.onnx.json").read_text())
    assert config["audio"] == {"sample_rate": 16000, "quality": "x_low"} and config["language"]["code"] == "en_US"
    lines = [line.split("train_piper: ", 1)[1] for line in said.splitlines() if ": step 0" in line]
    assert len({tuple(n for n, c in enumerate(line) if c == "|") for line in lines}) == 1, "one width"


@pytest.mark.slow
def test_piper_itself_speaks_it(trained, python):
    folder, _, _ = trained
    subprocess.run(
        [python, "-m", "piper", "-m", folder / "whole/model/model.onnx", "-f", folder / "said.wav", "The seven stones."],
        check=True, capture_output=True,
    )  # fmt: skip
    with wave.open(str(folder / "said.wav")) as said:
        assert said.getframerate() == 16000 and said.getnframes() > 1000


@pytest.mark.slow
def test_onnxruntime_speaks_it(trained):
    from voxmake.vits.speak import OnnxVoice

    folder, _, _ = trained
    spoken = OnnxVoice(folder / "whole/model/model.onnx")
    assert (
        spoken.facts["comment"] == "piper" and spoken.facts["has_espeak"] == "1" and spoken.facts["n_speakers"] == "1"
    )
    said = json.loads((folder / "whole/sentences.json").read_text())[0]
    assert spoken.speak(said["ids"]).size > 1000


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same(trained, python):
    folder, flags, _ = trained
    environment = os.environ | {"VOXMAKE_DATA": str(folder / "data")}
    output = folder / "killed"
    running = subprocess.Popen(command(python, flags, output), stderr=subprocess.PIPE, text=True, env=environment)
    for line in running.stderr:
        if "step 0000004/" in line:
            running.send_signal(signal.SIGKILL)
            break
    running.wait()
    assert "resuming from the last checkpoint" in train(python, flags, output)
    whole, killed = (json.loads((path / "training_log.json").read_text()) for path in (folder / "whole", output))
    for one, other in zip(whole["log"] + whole["evaluations"], killed["log"] + killed["evaluations"], strict=True):
        assert other == pytest.approx(one, abs=2e-5), (
            "the printed digits; the sixth behind the point may round otherwise"
        )


@pytest.mark.slow
def test_a_checkpoint_to_begin_with(trained, python):
    folder, flags, _ = trained
    best = sorted((folder / "whole/checkpoints").glob("mel_*.ckpt"))[-1]
    digest = hashlib.sha256(best.read_bytes()).hexdigest()
    pinned = ["--set", f"train_piper.checkpoint={best}", "--set", f"train_piper.checkpoint_sha256={digest}"]
    wrong = ["--set", f"train_piper.checkpoint={best}", "--set", f"train_piper.checkpoint_sha256={'f' * 64}"]
    assert "not the pinned one" in train(python, [*flags, *wrong], folder / "wrong", expect=2)
    other = [*flags, *pinned, "--set", "train_piper.quality=low"]
    said = train(python, other, folder / "other", expect=2)
    assert "weights do not fit" in said and "train_piper.quality" in said
    assert "weights fit" in train(python, [*flags, *pinned, "--set", "train_piper.mini_epochs=1"], folder / "warm")
    on = [*flags, *pinned, "--set", "train_piper.checkpoint_use=resume", "--set", "train_piper.mini_epochs=1"]
    train(python, on, folder / "on")
    epochs = [entry["epoch"] for entry in json.loads((folder / "on/training_log.json").read_text())["evaluations"]]
    assert epochs[-1] == 2, "it goes on after the epochs of the checkpoint"


@pytest.mark.slow
def test_the_rate_belongs_to_the_quality(python, tmp_path):
    flags = prepared(tmp_path)
    said = train(python, [*flags, "--set", "train_piper.quality=medium"], tmp_path / "out", expect=2)
    assert "set audio.sample_rate_hz to 22050" in said


@pytest.mark.slow
def test_speakers_keep_their_numbers(python, tmp_path):
    numbers = [2, 2, 1, 0, 1, 0, 2, 1, 0, 1]
    flags = prepared(tmp_path, speaker_id=numbers, speaker=["abc"[number] for number in numbers])
    train(python, [*flags, "--set", "train_piper.mini_epochs=1"], tmp_path / "out")
    config = json.loads((tmp_path / "out/model/model.onnx.json").read_text())
    assert config["speaker_id_map"] == {"a": 0, "b": 1, "c": 2} and config["num_speakers"] == 3
