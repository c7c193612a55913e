"""generate.py and audit.py from the command line, with the embedded engines."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT
from test_survival import script

from voxmake.run.run import read_table

CONTENT = "generate.content=[intro, outro, time, weather]"


@pytest.fixture
def programme(tmp_path, monkeypatch):
    """A config of the demo's catalog, and a data folder of the test's own."""
    monkeypatch.setenv("VOXMAKE_DATA", str(tmp_path / "data"))
    (tmp_path / "x.yaml").write_text(
        f"extends: {ROOT / 'configs/base.yaml'}\nproject: test\nstages: [audit]\n"
        "generate: {catalog: data/demo/catalog.yaml, weather: data/demo/weather.yaml, songs: 10}\n"
        "execution: {workers: 2, progress: none}\n"
    )
    return tmp_path


def run(project, name, *flags, expect=0, data="data"):
    sets = [part for flag in flags for part in (("--set", flag) if not flag.startswith("--") else flag.split(" ", 1))]
    process = script(project, name, *sets, data=data)
    _, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors
    assert process.returncode == expect, errors
    return errors


def result(project, name, data="data"):
    return (project / data / "projects/test" / name).resolve()


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("run.json", "run.log")
    }


def test_ten_songs_two_hosts(programme):
    run(programme, "generate")
    run(programme, "audit")
    rows = read_table(result(programme, "generate") / "metadata.csv")
    assert len(rows) == 20
    for row in rows:
        assert (result(programme, "generate") / row["file_name"]).read_text() == row["text"] + "\n"
        assert row["artist"] in row["text"] and row["title"] in row["text"]
        assert row["engine"] == "grammar" and row["model"] == ""
    audit = result(programme, "audit")
    summary = json.loads((audit / "summary.json").read_text())
    assert (summary["total_scripts"], summary["error"]) == (20, 0)
    assert 16 <= summary["passed"] <= 20
    assert summary["pass_rate"] == summary["passed"] / 20
    assert set(summary["by_dj"]) == {"julie", "mr_new_vegas"}
    passed = [row for row in read_table(audit / "metadata.csv") if row["state"] == "passed"]
    assert len(list(audit.glob("audit/*/passed/*_audit.json"))) == len(passed) == summary["passed"]
    record = json.loads((audit / "audit/julie/passed/ada-finch-copper-kettle-morning_audit.json").read_text())
    assert record["auditor"] == {"engine": "rules", "model": ""}
    assert record["score"] is None  # a rule gives no score
    assert len({row["text"] for row in rows}) >= 19  # with a short runway both hosts may say no more than the names


def test_everything_is_written_and_passes(programme):
    run(programme, "generate", CONTENT, "generate.songs=null")
    run(programme, "audit", CONTENT, "generate.songs=null")
    rejected = read_table(result(programme, "generate") / "rejected.csv")
    assert {row["reason"] for row in rejected} == {"no_runway"}  # the song whose vocals start after two seconds
    summary = json.loads((result(programme, "audit") / "summary.json").read_text())
    assert set(summary["by_type"]) == {"intro", "outro", "time", "weather"}
    assert {one["issue"] for one in summary["common_issues"]} <= {"repeated_opener", "near_duplicate"}
    assert summary["pass_rate"] > 0.9
    for row in read_table(result(programme, "generate") / "metadata.csv"):
        if row["type"] == "intro" and row["runway_s"]:
            assert int(row["words"]) <= float(row["runway_s"]) * 2.5


def test_same_bytes_whatever_the_workers_and_batches(programme):
    found = []
    for number, flags in enumerate((("execution.workers=1",), ("execution.workers=3", "generate.batch_size=3"))):
        for name in ("generate", "audit"):
            run(programme, name, *flags, data=f"data{number}")
        found.append([digests(result(programme, name, f"data{number}")) for name in ("generate", "audit")])
    assert found[0] == found[1]
    run(programme, "generate", "seed=7", data="other")
    texts = {row["text"] for row in read_table(result(programme, "generate", "other") / "metadata.csv")}
    assert len(texts & {row["text"] for row in read_table(result(programme, "generate", "data0") / "metadata.csv")}) < 5


def test_a_text_hangs_on_its_own_item_only(programme):
    """Fewer songs, one host less, another kind beside: each script stays what it was."""
    run(programme, "generate", CONTENT)
    texts = {row["id"]: row["text"] for row in read_table(result(programme, "generate") / "metadata.csv")}
    run(programme, "generate", "generate.songs=4", "generate.djs=[julie]")
    fewer = {row["id"]: row["text"] for row in read_table(result(programme, "generate") / "metadata.csv")}
    assert len(fewer) == 4
    assert fewer.items() <= texts.items()


def test_killed_and_resumed_gives_the_same_bytes(programme):
    flags = (CONTENT, "generate.songs=null", "audit.attempts=3", "generate.batch_size=2", "audit.batch_size=2")
    for name in ("generate", "audit"):
        run(programme, name, *flags, data="undisturbed")
    chosen, alive = random.Random(4), 0
    for name in ("generate", "audit"):
        for _ in range(4):
            process = script(
                programme, name, *(part for flag in flags for part in ("--set", flag)), start_new_session=True
            )
            time.sleep(chosen.uniform(0.3, 1.0))
            alive += process.poll() is None
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        run(programme, name, *flags)
        assert digests(result(programme, name)) == digests(result(programme, name, "undisturbed"))
    assert alive


def test_failed_scripts_are_written_again_with_what_was_wrong(programme):
    flags = (
        CONTENT,
        "generate.songs=null",
        "generate.time_every_min=10",
        "audit.near_duplicate=0.5",
        "audit.min_pass_rate=0",
    )
    run(programme, "generate", *flags)
    run(programme, "audit", *flags)
    once = json.loads((result(programme, "audit") / "summary.json").read_text())
    run(programme, "audit", *flags, "audit.attempts=4")
    audit = result(programme, "audit")
    summary = json.loads((audit / "summary.json").read_text())
    assert once["pass_rate"] == once["first_pass_rate"] == summary["first_pass_rate"]
    assert summary["pass_rate"] > summary["first_pass_rate"]
    assert summary["attempts"] > summary["total_scripts"] == once["total_scripts"]
    rows = read_table(audit / "metadata.csv")
    again = [row for row in rows if row["state"] == "passed" and row["attempt"] != "1"]
    assert again
    for row in again:
        record = json.loads((audit / row["file_name"]).read_text())
        first, last = record["attempts"][0], record["attempts"][-1]
        assert (first["state"], last["state"]) == ("failed", "passed")
        assert first["findings"] and record["text"] == last["text"] == row["text"] != first["text"]


def test_bad_scripts_fail_the_gate_and_are_filed_by_rule(programme):
    run(
        programme, "generate", "generate.words={intro: [60, 75]}", "generate.least_words=70", expect=65
    )  # the grammar has no such long sentence
    flags = (CONTENT, "generate.time_every_min=10")
    run(programme, "generate", *flags)
    errors = run(programme, "audit", *flags, "audit.near_duplicate=0.4", "audit.min_pass_rate=1", expect=1)
    assert "gate FAIL: pass_rate" in errors
    [audit] = (programme / "data/runs/audit").glob("[!.]*")
    summary = json.loads((audit / "summary.json").read_text())
    assert summary["common_issues"][0]["issue"] == "near_duplicate"
    assert len(list(audit.glob("audit/*/failed/*_audit.json"))) == summary["failed"] > 4


def test_labels_of_people_give_kappa(programme):
    run(programme, "generate", CONTENT, "generate.time_every_min=15")
    ids = [row["id"] for row in read_table(result(programme, "generate") / "metadata.csv")]
    rows = [f"{key},{'failed' if number % 9 == 0 else 'passed'}" for number, key in enumerate(ids)]
    (programme / "labels.csv").write_text("\n".join(["id,verdict", *rows, "nobody/intro/x,passed"]) + "\n")
    run(programme, "audit", CONTENT, "generate.time_every_min=15", f"--labels {programme / 'labels.csv'}")
    human = json.loads((result(programme, "audit") / "summary.json").read_text())["human"]
    assert human["scripts"] == len(ids)
    assert human["labels_without_a_verdict"] == 1
    assert -1 <= human["kappa_95"][0] <= human["kappa"] <= human["kappa_95"][1] <= 1
    (programme / "labels.csv").write_text("id,verdict\na,good\n")
    assert "labels.csv:2: verdict 'good'" in run(
        programme, "audit", CONTENT, "generate.time_every_min=15", f"--labels {programme / 'labels.csv'}", expect=65
    )


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (["generate.catalog=null"], 2, "generate.catalog: names no file of songs"),
        (["generate.catalog=nowhere.yaml"], 2, "nowhere.yaml: no such file"),
        (["generate.djs=[nobody]"], 2, "no persona 'nobody'"),
        (["generate.content=[jingle]"], 2, "generate.content.0"),
        (["generate.engine=openai"], 2, "model: engine openai needs one"),
        (["generate.engine=openai", "generate.model=m"], 2, "base_url or launch"),
        (["generate.engine=openai", "generate.model=m", "generate.base_url=http://me:secret@host/v1"], 2, "without a name or password"),
        (["generate.words={intro: [9, 3]}"], 2, "fewest first"),
    ],
)  # fmt: skip
def test_faults_in_the_config_are_one_line(programme, flags, code, told):
    errors = run(programme, "generate", *flags, expect=code)
    assert told in errors


def test_faults_in_the_catalog_name_file_and_line(programme):
    catalog = programme / "songs.yaml"
    for text, told in (
        ("songs:\n  - {title: A, artist: B}\n  - {title: A}\n", "songs.yaml:3: songs.1.artist"),
        ("songs:\n  - {title: A, artist: B, yaer: 3}\n", "songs.yaml:2: songs.0.yaer"),
        ("songs:\n  - {title: A, artist: B}\n  - {title: a, artist: b}\n", "songs 1 and 2 are both"),
        ("songs: [\n", "songs.yaml:2"),
        ('songs:\n  - {title: "A\\u0007", artist: B}\n', "control characters"),
    ):
        catalog.write_text(text)
        assert told in run(programme, "generate", f"generate.catalog={catalog}", expect=65)


def test_what_decides_the_result_decides_the_name(programme, tmp_path):
    from generate import STAGE
    from voxmake.run.stage import load_config, plan_stage

    def name(*flags, stage=STAGE.name):
        return plan_stage(stage, load_config(programme / "x.yaml", list(flags)), {}).hash12

    catalog = tmp_path / "moved.yaml"
    catalog.write_bytes((ROOT / "data/demo/catalog.yaml").read_bytes())
    assert name() == name(f"generate.catalog={catalog}") == name("generate.tries=9", "generate.batch_size=2")
    assert name("generate.temperature=0.1") == name()  # no model is asked
    model = ("generate.engine=openai", "generate.model=m", "generate.base_url=http://a:1/v1")
    assert len({name(), name(*model), name(*model, "generate.temperature=0.1"), name("seed=1")}) == 4
    assert name(*model) == name(*model, "generate.base_url=http://b:2/v1", "generate.timeout_s=3")
    catalog.write_text(catalog.read_text().replace("slow waltz", "quick waltz"))
    assert name() != name(f"generate.catalog={catalog}")
    assert (
        name(stage="audit")
        != name("audit.attempts=2", stage="audit")
        != name("audit.attempts=2", *model, stage="audit")
    )


def test_dry_run_and_limit(programme):
    assert "would work on 20 scripts" in run(programme, "generate", "--dry-run")
    assert not (programme / "data/runs").exists()
    run(programme, "generate", "--limit 3")
    assert len(read_table(next((programme / "data/runs/generate").glob("[!.]*")) / "metadata.csv")) == 3


def test_help_is_quick():
    for name in ("generate", "audit"):
        begun_s = time.monotonic()
        subprocess.run([sys.executable, ROOT / f"scripts/{name}.py", "--help"], check=True, capture_output=True)
        assert time.monotonic() - begun_s < 2  # half a second on an idle machine
