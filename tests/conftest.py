"""What tests share: tiny recordings, a project of its own for each test, and the real recordings."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[1]
# Real human recordings, beside the checkout; never part of it. Tests that need them skip without.
REAL = Path(os.environ.get("VOXMAKE_TEST_DATA") or ROOT.parent / "shared" / "data")

sys.path.insert(0, str(Path(__file__).parent / "run"))  # tests/run/workers.py, for worker processes too


def voice(seconds: float, rate_hz: int = 16000, seed: int = 0, level: float = 0.1) -> np.ndarray:
    """A buzz with a moving formant and pauses: speech enough for levels and resampling. Shape (n,), float32."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    buzz = np.sign(np.sin(2 * np.pi * (110 + 20 * rng.random()) * t)) * (
        np.sin(2 * np.pi * 2.3 * t + rng.random()) > -0.5
    )
    return (level * (buzz + 0.1 * rng.standard_normal(t.size))).astype(np.float32)


def audio_folder(folder: Path, clips: int, seconds: float = 0.5, rate_hz: int = 16000) -> Path:
    """An AudioFolder of `clips` good WAV files with transcripts."""
    (folder / "audio").mkdir(parents=True)
    rows = ["file_name,transcription"]
    for number in range(clips):
        name = f"audio/clip{number:04}.wav"
        soundfile.write(folder / name, voice(seconds + 0.01 * number, rate_hz, number), rate_hz, subtype="PCM_16")
        rows.append(f"{name},Sentence number {number}.")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder of recordings, a config that reads it, and a data folder of the test's own."""
    monkeypatch.setenv("VOXMAKE_DATA", str(tmp_path / "data"))
    audio_folder(tmp_path / "recordings", clips=6)
    config = tmp_path / "x.yaml"
    config.write_text(
        f"extends: {ROOT / 'configs' / 'base.yaml'}\n"
        "project: test\n"
        "stages: [preprocess]\n"
        f"collect: {{sources: [{{path: '{tmp_path / 'recordings'}'}}]}}\n"
        "execution: {workers: 2, progress: plain}\n"
    )
    return tmp_path


@pytest.fixture
def real():
    """The folder of real recordings."""
    if not REAL.is_dir():
        pytest.skip(f"no real recordings at {REAL}; set VOXMAKE_TEST_DATA")
    return REAL
