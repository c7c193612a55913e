"""The whole programme by one command: what it makes, what it leaves, and what it makes again."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from test_generate import digests, result

from voxmake.run.run import read_table

ONE = ("--time", "--dj", "julie", "--limit", "1")


@pytest.fixture
def programme(tmp_path):
    """A project folder with catalog, personas and prompts of its own, so that a test can change them."""
    for name in ("data/demo/catalog.yaml", "data/demo/weather.yaml"):
        (tmp_path / name.rpartition("/")[2]).write_bytes((ROOT / name).read_bytes())
    for folder in ("personas", "prompts"):
        (tmp_path / folder).mkdir()
        for file in (ROOT / "configs" / folder).iterdir():
            (tmp_path / folder / file.name).write_bytes(file.read_bytes())
    (tmp_path / "x.yaml").write_text(
        f"extends: {ROOT / 'configs/base.yaml'}\nproject: test\nstages: [tts]\n"
        f"generate: {{catalog: {tmp_path}/catalog.yaml, weather: {tmp_path}/weather.yaml, personas: {tmp_path}/personas, "
        f"prompts: {tmp_path}/prompts}}\n"
        "execution: {workers: 2, progress: none}\n"
    )
    return tmp_path


def start(project, *flags, data="data", **popen):
    command = [sys.executable, ROOT / "scripts/generate_with_audit.py", "--config", project / "x.yaml", *flags]
    environment = os.environ | {"VOXMAKE_DATA": str(project / data)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen
    )


def go(project, *flags, expect=0, data="data"):
    process = start(project, *flags, data=data)
    output, errors = process.communicate(timeout=500)
    assert "Traceback" not in errors
    assert process.returncode == expect, errors
    return output, errors


def state(project, data="data"):
    return json.loads((project / data / "projects/test/pipeline_state.json").read_text())


def stale(project, *flags):
    """Item -> stages that a dry run lists."""
    lines = go(project, *flags, "--dry-run")[0].splitlines()
    return {line.partition(": ")[0]: line.partition(": ")[2] for line in lines}


def test_the_seeds_integration_test(programme):
    go(programme, "--intros", "--dj", "all", "--test", "--limit", "10")
    told = state(programme)
    assert {name: one["state"] for name, one in told["stages"].items()} == dict.fromkeys(told["stages"], "done")
    assert all({"gpu_memory_before_mb", "gpu_memory_after_mb"} <= one.keys() for one in told["stages"].values())
    assert len(read_table(result(programme, "generate") / "metadata.csv")) == 20
    summary = json.loads((result(programme, "audit") / "summary.json").read_text())
    assert 16 <= summary["passed"] <= 20
    rows = read_table(result(programme, "tts") / "metadata.csv")
    similarity = sum(float(row["similarity"]) for row in rows) / len(rows)
    print(f"pocketsphinx similarity of the spoken programme: {similarity:.3f}")
    assert similarity > 0.6
    assert len(list(result(programme, "tts").glob("audio/*/intros/*.wav"))) == len(rows) == summary["passed"]
    assert len(told["test_set"]) == 10
    assert stale(programme) == {}

    audio = digests(result(programme, "tts") / "audio")
    texts = digests(result(programme, "generate") / "scripts")
    go(programme, "--intros", "--dj", "all", "--test", "--same-set")
    assert digests(result(programme, "tts") / "audio") == audio
    assert digests(result(programme, "generate") / "scripts") == texts


def test_a_change_makes_exactly_its_items_stale(programme):
    command = ("--intros", "--outros", "--dj", "all", "--limit", "3", "--skip-audio")
    everything = stale(programme, *command)
    assert len(everything) == 12 and set(everything.values()) == {"generate audit"}
    assert not (programme / "data/runs").exists()
    go(programme, *command)

    def silent(*flags):
        return stale(programme, "--skip-audio", *flags)

    assert silent() == stale(programme, *command) == {}
    catalog, persona = programme / "catalog.yaml", programme / "personas/julie.yaml"
    before = catalog.read_text()
    catalog.write_text(before.replace("steam upon the glass", "steam upon the pane"))
    song = "ada-finch-copper-kettle-morning"
    assert set(silent()) == {f"{dj}/{kind}/{song}" for dj in ("julie", "mr_new_vegas") for kind in ("intro", "outro")}
    catalog.write_text(before)
    persona.write_text(persona.read_text().replace("I keep the sleeve", "I put the sleeve"))
    assert {item.partition("/")[0] for item in silent()} == {"julie"}
    assert len(silent()) == 6
    assert set(silent().values()) == {"generate audit"}
    assert len(silent("--set", "seed=9")) == 12
    (programme / "prompts/canaries.yaml").write_text((programme / "prompts/canaries.yaml").read_text() + "# new\n")
    assert stale(
        programme, "--set", f"generate.personas={ROOT}/configs/personas", "--set", f"audit.prompts={programme}/prompts"
    )
    model = (
        "--set",
        "generate.engine=openai",
        "--set",
        "generate.model=m",
        "--set",
        "generate.base_url=http://127.0.0.1:9/v1",
    )
    assert len(silent(*model)) == 12


def test_a_prompt_concerns_its_kind(programme, monkeypatch):
    from generate import item_keys, read_plan
    from voxmake.run.stage import load_config

    def keys():
        flags = ["generate.content=[intro, outro]", "generate.songs=2", "generate.engine=openai", "generate.model=m",
                 "generate.base_url=http://127.0.0.1:9/v1"]  # fmt: skip
        config = load_config(programme / "x.yaml", flags)
        return item_keys(config, read_plan(config))

    before = keys()
    prompt = programme / "prompts/intro.j2"
    prompt.write_text(prompt.read_text() + "\nBe kind.\n")
    assert {item.split("/")[1] for item, key in keys().items() if before[item] != key} == {"intro"}
    system = programme / "prompts/system.j2"
    system.write_text(system.read_text() + "\nBe brief.\n")
    assert not set(keys().values()) & set(before.values())


def test_one_stage_after_the_other(programme):
    go(programme, *ONE, "--stage", "audio", expect=65)
    go(programme, *ONE, "--stage", "generate")
    assert state(programme)["stages"]["audit"] == {"state": "left out"}
    assert set(stale(programme, "--stage", "all").values()) == {"audit audio"}
    go(programme, "--stage", "audit")
    go(programme, "--stage", "audio")
    [item] = state(programme)["items"].values()
    assert item["state"] == "passed" and Path(item["file"]).stat().st_size > 10_000
    assert stale(programme, "--stage", "all") == {}


def test_a_failed_gate_stops_before_the_voice(programme):
    flags = ("--set", "audit.max_same_opener=1", "--set", "audit.min_pass_rate=1", "--set", "audit.near_duplicate=0.2")
    command = ("--time", "--dj", "julie", "--limit", "40", *flags)
    for _ in range(2):  # a finished run whose gate failed does not pass the second time
        assert "gate FAIL: pass_rate" in go(programme, *command, expect=1)[1]
        told = state(programme)
        assert (told["stages"]["audit"]["state"], told["stages"]["audio"]["state"]) == ("done", "to do")
    assert {one["state"] for one in told["items"].values()} == {"passed", "failed"}


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "say what to write"),
        (["--dj", "julie"], "say what to write"),
        (["--resume"], "there is no earlier command"),
        (["--resume", "--intros"], "take the other flags out"),
        (["--intros", "--same-set"], "there was no --test"),
        (["--intros", "--same-set", "--limit", "3"], "take --limit and --random out"),
        (["--intros", "--random"], "say how many"),
        (["--intros", "--dj", "nobody"], "no persona 'nobody'"),
        (["--intros", "--stage", "audio", "--skip-audio"], "take one of them out"),
    ],
)
def test_flags_that_make_no_sense(programme, flags, told):
    assert told in go(programme, *flags, expect=2)[1]


def test_random_is_drawn_by_the_seed(programme):
    command = ("--all-content", "--dj", "julie", "--limit", "2", "--random")
    drawn = stale(programme, *command)
    assert len(drawn) == 8 and drawn == stale(programme, *command)
    assert set(drawn) != set(stale(programme, *command[:-1]))


def test_killed_anywhere_and_resumed(programme):
    survive(programme, ONE, kills=2)


@pytest.mark.slow
def test_killed_thirty_times(programme):
    survive(programme, ("--intros", "--dj", "all", "--test", "--limit", "2"), kills=30)


def survive(programme, command, kills):
    begun_s = time.monotonic()
    go(programme, *command, data="undisturbed")
    took_s = time.monotonic() - begun_s  # kills fall into the run, however fast the machine is
    chosen, alive = random.Random(6), 0
    for number in range(kills):
        flags = command if number == 0 or not (programme / "data/projects/test").exists() else ("--resume",)
        process = start(programme, *flags, start_new_session=True)
        time.sleep(chosen.uniform(0.05, 0.8) * took_s)
        alive += process.poll() is None
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)  # this one alone: its stage has to end with it
        process.communicate()
    go(programme, "--resume")
    assert alive
    for name in ("generate", "audit", "tts"):
        assert digests(result(programme, name)) == digests(result(programme, name, "undisturbed"))
    assert state(programme)["items"].keys() == state(programme, "undisturbed")["items"].keys()
    assert stale(programme) == {}
