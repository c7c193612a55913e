"""Voices that are models, tiny ones: the same seed is the same take, whatever was spoken before."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from tiny_voices import tiny_mms, tiny_piper

from voxmake.errors import Failure
from voxmake.tts.engine import load, seed_of


def takes(voice, name):
    """A text with one seed; after another text again; with another seed."""
    made = []
    for text, seed in (("hello there.", 1), ("something else.", 3), ("hello there.", 1), ("hello there.", 2)):
        voice.begin(name, seed, 1)
        made.append(voice.speak(text))
    first, _, again, other = made
    assert first.dtype == np.float32 and first.ndim == 1 and np.isfinite(first).all()
    assert np.array_equal(first, again)
    assert not np.array_equal(first[: len(other)], other[: len(first)])
    return first


def test_mms(tmp_path):
    slow, fast = (load("mms", str(tiny_mms(tmp_path)), speed) for speed in (1.0, 2.0))
    assert slow.rate_hz == 16000 and slow.watermark == "none"
    assert len(takes(fast, None)) < len(takes(slow, None))


def test_piper(tmp_path):
    if not (Path(os.environ.get("VOXMAKE_ENVS") or ROOT / ".venv") / "piper/bin/python").exists():
        pytest.skip("piper-tts is not installed: docker/setup.py --env piper")
    path = tiny_piper(tmp_path)
    voice = load("piper", str(path), 1.0)
    ann, ben = takes(voice, "ann"), takes(voice, "1")
    assert np.abs(ben).mean() > 1.5 * np.abs(ann).mean()
    with pytest.raises(Failure, match="cid is no speaker of this voice; there are: ann ben"):
        voice.begin("cid", 1, 1)
    facts = json.loads((tmp_path / "voice.onnx.json").read_text())
    (tmp_path / "voice.onnx.json").unlink()
    with pytest.raises(Failure, match=r"voice.onnx.json is not there"):
        load("piper", str(path), 1.0)
    assert facts["num_speakers"] == 2


def test_seeds():
    seeds = {seed_of(run, text, take) for run in (0, 1) for text in ("a", "b") for take in (1, 2, 3)}
    assert len(seeds) == 12 and all(0 <= seed < 2**31 for seed in seeds)
