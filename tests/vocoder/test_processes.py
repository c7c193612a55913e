"""Which GPUs a training sees, and what becomes of several."""

import os

import pytest

from voxmake.nets import world


@pytest.mark.parametrize(("gpus", "seen"), [([], ""), ([3], "3")])
def test_none_or_one(monkeypatch, gpus, seen):
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    world.choose_gpus(gpus)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


def test_several_become_torchrun(monkeypatch):
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(world.sys, "argv", ["scripts/train_vocoder.py", "--config", "x.yaml"])
    called = []
    monkeypatch.setattr(world.os, "execv", lambda program, argv: called.append(argv[1:]))
    world.choose_gpus([2, 5])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,5"
    [argv] = called
    assert argv == [
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "scripts/train_vocoder.py", "--config",
        "x.yaml",
    ]  # fmt: skip
