"""Training: it learns, resumes to the same curve wherever it was killed, takes two processes, and its guards act."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, voice

SCRIPTS = str(ROOT / "scripts")
TINY = dict(
    dim=24, layers=3, front_layers=1, embedding=8, fft=640, periods=[2, 3], resolutions=[256], scales=1,
    discriminator_width=0.0625, epochs=3, batch_size=4, samples_per_epoch=24, crop_units=16, mel_only_steps=4,
    ramp_steps=4, save_every=2, lr=2e-3, min_delta=0.0, validation_s=0.5,
)  # fmt: skip


def job(folder, every_s=1e9, speakers=(), **changes):
    from voxmake.vocoder.data import Clip
    from voxmake.vocoder.job import Job
    from voxmake.vocoder.model import Facts
    from voxmake.vocoder.spec import VocoderSpec

    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for number in range(6):
        frames = 40 + number
        samples = voice(frames * 0.02, seed=number, level=0.2)
        levels = np.abs(samples.reshape(frames, 320)).mean(1)
        units = np.digitize(levels, np.quantile(levels, [0.25, 0.5, 0.75])).astype(np.int16)
        path = folder / f"{number}.wave"
        (samples * 32767).astype("<i2").tofile(path)
        clips.append(Clip(str(number), units, path))
    facts = Facts("a" * 64, 4, 320, list(speakers), VocoderSpec(**TINY | changes))
    return Job(folder, facts, "identity", clips[:5], clips[5:], 42, every_s, 1)


def train(folder, lines=None, **changes):
    from voxmake.nets.world import World
    from voxmake.vocoder.training import Trainer

    trainer = Trainer(World(1), job(folder, **changes), (lines if lines is not None else []).append)
    trainer.run()
    return trainer


def results(trainer):
    from voxmake.vocoder.training import training_log

    files = {name: (trainer.job.folder / name).read_bytes() for name in trainer.files()}
    return files | {"training_log.json": training_log(trainer).encode()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"))


def test_it_learns_and_writes_what_it_should(whole):
    curve = [row["validation"] for row in whole.history]
    assert len(curve) == 4 and min(curve[1:]) < 0.7 * curve[0]
    assert sorted(results(whole)) == sorted(
        [
            "vocoder_final.safetensors", "vocoder_final.json", "vocoder_latest.safetensors", "training_log.json",
            "vocoder_epoch_0002.safetensors", "vocoder_epoch_0002.json", "sample_epoch_0002.wav",
            "vocoder_epoch_0003.safetensors", "vocoder_epoch_0003.json", "sample_epoch_0003.wav",
            "tensorboard/events.out.tfevents.0000000000.voxmake",
        ]
    )  # fmt: skip
    # Mel alone for 4 of the first 6 steps, discriminators after that.
    assert all(row["adversary"] > 0 and row["gradient_d"] > 0 for row in whole.history[1:])
    log = json.loads(results(whole)["training_log.json"])
    assert log["steps"] == 18 and log["collapse"] is False and len(log["epochs"]) == 4
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(whole.job.folder / "tensorboard"))
    board.Reload()
    found = board.Scalars("validation")
    assert [event.step for event in found] == [row["step"] for row in whole.history]
    assert [event.value for event in found] == pytest.approx([row["validation"] for row in whole.history], rel=1e-6)


def test_killed_anywhere_it_goes_on_to_the_same_curve(whole, tmp_path):
    """Killed at the 5th and then, resumed, at the 9th save of every step: all files are the uninterrupted run's."""
    program = (
        "import os, signal, sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]\n"
        "from pathlib import Path; import test_training; from voxmake.nets.checkpoint import Checkpoint\n"
        "save = Checkpoint.save; saves = []\n"
        "def deadly(self, *state):\n"
        "    save(self, *state); saves.append(1)\n"
        "    len(saves) == int(sys.argv[4]) and os.kill(os.getpid(), signal.SIGKILL)\n"
        "Checkpoint.save = deadly\n"
        "test_training.train(Path(sys.argv[3]), every_s=0)\n"
    )
    paths = [SCRIPTS, str(ROOT / "tests/vocoder"), str(tmp_path / "killed")]
    for saves in ("5", "9"):
        command = [sys.executable, "-c", program, *paths, saves]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
        assert subprocess.run(command, env=environment, check=False).returncode == -9
    lines = []
    again = train(tmp_path / "killed", lines, every_s=0)
    assert "training goes on at epoch 3, step 14" in lines[0]
    assert results(again) == results(whole)


def test_a_state_of_other_data_is_not_used(whole, tmp_path):
    from dataclasses import replace

    from voxmake.nets.world import World
    from voxmake.vocoder.training import Trainer

    one = job(tmp_path / "x", epochs=1)
    Trainer(World(1), one, lambda line: None).run()
    lines = []
    Trainer(World(1), replace(one, identity="other"), lines.append).run()
    assert not any("goes on" in line for line in lines)


def test_two_processes_train_as_one(whole, tmp_path):
    """Gloo on a CPU: the batch is shared out, so losses are those of one process, but for the order of additions."""
    program = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]\n"
        "from pathlib import Path; import json, test_training\n"
        "from voxmake.nets.world import World, follow; from voxmake.vocoder.training import Trainer\n"
        "world = World(1); folder = Path(sys.argv[3])\n"
        "if world.rank:\n"
        "    sys.exit(follow(world, lambda world, job: Trainer(world, job, print).run()))\n"
        "job = test_training.job(folder); world.share(job)\n"
        "trainer = Trainer(world, job, print); trainer.run(); world.share(); world.close()\n"
        "(folder / 'history.json').write_text(json.dumps(trainer.history))\n"
    )
    script = tmp_path / "two.py"
    script.write_text(program)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script,
        SCRIPTS, ROOT / "tests/vocoder", tmp_path / "two",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    history = json.loads((tmp_path / "two/history.json").read_text())
    for one, two in zip(whole.history, history, strict=True):
        assert one == pytest.approx(two, rel=0.02)


def test_discriminators_that_win_are_held_back(tmp_path):
    lines = []
    trainer = train(tmp_path, lines, collapse_loss=10.0, collapse_steps=5)
    assert [alarm["step"] for alarm in trainer.alarms] == [8, 13]  # they begin at step 4
    assert trainer.at.discriminator_factor == 0.25 and trainer.at.discriminator_every == 2
    assert (
        trainer.optimisers["discriminator"].param_groups[0]["lr"]
        < 0.5 * trainer.optimisers["generator"].param_groups[0]["lr"]
    )
    assert sum("ALARM" in line for line in lines) == 2
    assert json.loads(results(trainer)["training_log.json"])["collapse"] is True
    trainer.spec.__dict__["collapse_loss"] = 0.0  # they lose again: every step is theirs
    for _ in range(5):
        trainer._watch(0.5)
    assert trainer.at.discriminator_every == 1


def test_training_ends_when_validation_gets_no_better(tmp_path):
    trainer = train(tmp_path, epochs=20, patience=2, min_delta=1e9)
    # In the second epoch (step 12) the discriminators have their weight: better than nothing. Two more are not better
    # by so much.
    assert trainer.at.epoch == 4 and "no better validation for 2 epochs" in trainer.at.stopped
    # vocoder_final is of the best of these, not of the mel alone.
    final = json.loads((tmp_path / "vocoder_final.json").read_text())
    best = min(trainer.history[2:], key=lambda row: row["smoothed"])
    assert final["epoch"] == best["epoch"] and trainer.at.best == best["smoothed"]


def test_gradients_that_are_no_numbers_stop_it(tmp_path):
    import torch

    from voxmake.errors import Failure
    from voxmake.nets.world import World
    from voxmake.vocoder.training import Trainer

    trainer = Trainer(World(1), job(tmp_path, every_s=0), lambda line: None)
    real = trainer._batch

    def broken():
        batch = real()
        if trainer.at.step == 3:
            batch.wave[:] = np.nan
        return batch

    trainer._batch = broken
    with pytest.raises(Failure, match=r"step 3: the (generator|discriminator)'s loss is nan.*lower vocoder.lr"):
        trainer.run()
    arrays, facts = trainer.checkpoint.load()
    assert facts["at"]["step"] == 3 and all(np.isfinite(array).all() for array in arrays.values())
    assert all(torch.isfinite(p).all() for p in trainer.generator.parameters())
