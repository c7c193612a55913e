"""tts.py from the command line: what passed is spoken, checked and levelled; what fails gets no file."""

import json
import os
import random
import re
import signal
import time

import pytest
from conftest import ROOT
from test_generate import digests, result, run
from test_survival import script

from voxmake.run.run import read_table

TIME = ("generate.content=[time]", "generate.slots=2", "generate.djs=[julie]")


@pytest.fixture
def programme(tmp_path, monkeypatch):
    monkeypatch.setenv("VOXMAKE_DATA", str(tmp_path / "data"))
    (tmp_path / "x.yaml").write_text(
        f"extends: {ROOT / 'configs/base.yaml'}\nproject: test\nstages: [tts]\n"
        "generate: {catalog: data/demo/catalog.yaml, weather: data/demo/weather.yaml}\n"
        "execution: {workers: 2, progress: none}\n"
    )
    return tmp_path


def written(project, *flags, data="data"):
    for name in ("generate", "audit"):
        run(project, name, *TIME, *flags, data=data)


def test_what_passed_is_spoken_and_what_fails_is_a_record(programme):
    written(programme)
    run(programme, "tts", *TIME)
    made = result(programme, "tts")
    rows = read_table(made / "metadata.csv")
    assert len(rows) == 2
    assert sorted(row["file_name"] for row in rows) == sorted(
        path.relative_to(made).as_posix() for path in made.glob("audio/julie/time/*.wav")
    )
    for row in rows:
        assert abs(float(row["loudness_lufs"]) + 16) <= 0.1 and float(row["true_peak_db"]) <= -1
        assert (row["engine"], row["watermark"], row["take"]) == ("espeak", "none", "1")
        assert float(row["similarity"]) > 0.42
    assert not list(made.glob("takes*"))
    assert json.loads((made / "failures.json").read_text()) == []

    # Nothing is that similar: no file, no row, and every take is on record.
    errors = run(programme, "tts", *TIME, "tts.min_similarity=1", "tts.retries=1", expect=65)
    assert "2 speech_failed" in errors
    left = next((programme / "data/runs/tts").glob(".tmp-*"))
    assert not list(left.glob("audio/**/*.*"))
    failures = json.loads((left / "failures.json").read_text())
    assert [len(one["takes"]) for one in failures] == [2, 2]
    assert len({take["seed"] for one in failures for take in one["takes"]}) == 4
    assert all(re.match(r"wrong_words.*, similarity 0\.\d+, 2 takes", one["why"]) for one in failures)


def test_only_what_changed_is_spoken_again(programme):
    """One more script, one voice changed: the clips that stay are taken from the run before, byte for byte."""
    written(programme)
    run(programme, "tts", *TIME)
    first = digests(result(programme, "tts") / "audio")
    three = (*TIME, "generate.slots=3")
    written(programme, "generate.slots=3")
    errors = run(programme, "tts", *three)
    assert "1/1 takes " in errors
    assert first.items() <= digests(result(programme, "tts") / "audio").items()
    alone = "alone"  # the same run without any before it
    written(programme, "generate.slots=3", data=alone)
    run(programme, "tts", *three, data=alone)
    assert digests(result(programme, "tts", alone)) == digests(result(programme, "tts"))


def test_killed_and_resumed_gives_the_same_bytes(programme):
    survive(programme, kills=2)


@pytest.mark.slow
def test_killed_often(programme):
    survive(programme, kills=10)


def survive(programme, kills):
    for data in ("undisturbed", "data"):
        written(programme, data=data)
    begun_s = time.monotonic()
    run(programme, "tts", *TIME, data="undisturbed")
    took_s = time.monotonic() - begun_s
    chosen, alive = random.Random(5), 0
    for _ in range(kills):
        process = script(programme, "tts", *(part for flag in TIME for part in ("--set", flag)), start_new_session=True)
        time.sleep(chosen.uniform(0.05, 0.8) * took_s)
        alive += process.poll() is None
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    run(programme, "tts", *TIME)
    assert alive
    assert digests(result(programme, "tts")) == digests(result(programme, "tts", "undisturbed"))


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (["tts.engine=piper"], 2, "model: engine piper needs one"),
        (["tts.model=x"], 2, "model: espeak has none"),
        (["tts.engine=mms", "tts.model=nowhere"], 2, "nowhere: no such file or folder"),
        (["tts.voice=nobody"], 70, "espeak knows no nobody"),
        (["tts.lexicon=README.md"], 2, "README.md"),
    ],
)
def test_faults_in_the_config_are_one_line(programme, flags, code, told):
    written(programme)
    assert told in run(programme, "tts", *TIME, *flags, expect=code)
