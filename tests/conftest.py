"""What tests share: tiny recordings, a project of its own for each test, and the real recordings."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

# Tiny networks: threads that wait for each other, spinning, would take a hundred times as long on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

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


CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium of the system."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: docker/setup.py --group browser"
    )
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this system")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Open an index.html as a person would; every complaint of the browser fails the test."""
    contexts, complaints = [], []

    def visit(index, **settings):
        context = browser.new_context(accept_downloads=True, **settings)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith(("file:", "data:", "blob:")) else complaints.append(request.url)
            ),
        )
        page.goto(index.as_uri())
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []
