"""The graph that make sees: `-n` and `-q` tell the truth, and only what must run runs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def make(project):
    """Run make in the project; `.rules` are the stages it ran."""
    environments = project / "envs"
    environments.mkdir()
    (environments / "core").symlink_to(sys.prefix)
    ready = Path(sys.prefix) / ".ready"
    if not ready.exists():
        pytest.skip("needs an environment made by `make setup`")

    def run(*words, config="x.yaml", check=True):
        command = ["make", f"ENVS={environments}", f"CONFIG={project / config}", *words]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
        if check:
            assert result.returncode == 0, result.stdout + result.stderr
        result.rules = [line.split("/")[-2] for line in result.stderr.splitlines() if " making " in line]
        return result

    return run


def dry_rules(result):
    return [line.split("scripts/")[1].split(".py")[0] for line in result.stdout.splitlines() if "scripts/" in line]


def test_only_what_must_run_runs(make, project):
    assert dry_rules(make("-n", "all")) == ["collect", "preprocess"]
    assert make("-q", "all", check=False).returncode == 1
    assert not list((project / "data").glob("runs/*"))  # -n and -q made nothing

    assert make("all").rules == ["collect", "preprocess"]
    assert make("-q", "all").returncode == 0
    assert dry_rules(make("-n", "all")) == []

    other = "SET=audio.target_db=-23"
    assert dry_rules(make("-n", "all", other)) == ["preprocess"]
    assert make("all", other).rules == ["preprocess"]
    assert make("all").rules == []  # back to the old value: the old run

    assert make("all", "SET=execution.workers=1 execution.progress=none project=other").rules == []

    (project / "x.yaml").touch()
    (project / "recordings" / "metadata.csv").touch()
    assert make("all").rules == []  # times are no content
    with (project / "recordings" / "metadata.csv").open("a") as metadata:
        metadata.write("audio/clip0000.wav,The same file once more.\n")
    assert dry_rules(make("-n", "preprocess")) == ["collect", "preprocess"]


def test_an_older_file_in_place_of_an_input_is_noticed(make, project):
    make("all")
    clip = project / "recordings" / "audio" / "clip0001.wav"
    other = project / "recordings" / "audio" / "clip0002.wav"
    clip.write_bytes(other.read_bytes())
    os.utime(clip, (1, 1))
    assert dry_rules(make("-n", "all")) == ["collect", "preprocess"]


def test_a_finished_run_is_never_stale_by_its_times(make, project):
    make("all")
    for manifest in (project / "data" / "runs" / "collect").glob("*/MANIFEST.sha256"):
        os.utime(manifest, (2**32, 2**32))  # newer than what was made from it
    assert make("-q", "all").returncode == 0


def test_links_for_people_follow_the_config(make, project):
    link = project / "data" / "projects" / "test" / "preprocess"
    make("all")
    first = link.readlink()
    make("all", "SET=audio.target_db=-23")
    assert link.readlink() != first
    make("all")
    assert link.readlink() == first


def test_two_makes_at_once_one_is_told_to_come_back(make, project):
    from voxmake.run.store import WorkDir

    target = dry_target(make("-n", "collect"))
    work = WorkDir(target)
    result = make("collect", check=False)
    work.close()
    assert "Error 75" in result.stderr
    assert "another run holds" in result.stderr
    assert make("collect").rules == ["collect"]


def dry_target(result):
    [line] = [line for line in result.stdout.splitlines() if "scripts/" in line]
    return Path(line.split("--output ")[1].strip())


def test_config_errors_stop_make_with_one_line(make, project):
    (project / "bad.yaml").write_text("audio: {target_bd: -3}\n")
    result = make("all", config="bad.yaml", check=False)
    assert result.returncode == 2
    assert "bad.yaml:1: audio.target_bd: unknown key; did you mean target_db?" in result.stderr
    assert "Traceback" not in result.stderr


def test_terminated_make_goes_on_later(make, project):
    command = ["make", f"ENVS={project / 'envs'}", f"CONFIG={project / 'x.yaml'}", "all"]
    running = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True)
    time.sleep(1.0)
    os.killpg(running.pid, signal.SIGTERM)
    _, errors = running.communicate(timeout=60)
    assert running.returncode != 0
    assert "Traceback" not in errors
    make("all")
    assert make("-q", "all").returncode == 0


def test_verify_and_sweep(make, project):
    make("all")
    assert "2 runs verified" in make("verify").stdout
    [clip] = (project / "data" / "runs" / "preprocess").glob("*/audio/clip0003.wav")
    data = clip.read_bytes()
    clip.chmod(0o644)
    clip.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    result = make("verify", check=False)
    assert "clip0003.wav: content differs from the manifest" in result.stderr
    run = f"preprocess/{clip.parents[1].name}"
    make("sweep", f"RUN={run}")
    assert make("all").rules == ["preprocess"]
    assert clip.read_bytes() == data

    (project / "data" / "runs" / "collect" / ".tmp-0123456789ab").mkdir()
    make("all", "SET=audio.target_db=-23")
    make("sweep", "UNUSED=1")
    assert not list((project / "data").glob("runs/*/.*"))
    assert len(list((project / "data").glob("runs/*/*"))) == 2


def test_plan_and_status_tell_what_is_there(make, project):
    assert make("plan").stdout.count("to do") == 2
    make("all", "SET=project=mine")
    assert make("plan").stdout.count("done") == 2
    told = make("status").stdout.splitlines()
    assert [line.split("/")[0] for line in told[1:]] == ["collect", "preprocess"]
    assert told[1].split()[2:] == ["6", "0", "PASS", "mine"]
    (project / "data" / "runs" / "collect" / ".tmp-0123456789ab").mkdir()
    assert "interrupted" in make("status").stdout


def test_why_diff_and_stale(make, project):
    make("all")
    assert "keys.audio.target_db: -20.0 -> -23.0" in make("why", "STAGE=preprocess", "SET=audio.target_db=-23").stdout
    old = (project / "data" / "projects" / "test" / "preprocess").readlink()
    make("all", "SET=audio.target_db=-23")
    new = (project / "data" / "projects" / "test" / "preprocess").readlink()
    told = make("diff", f"A=preprocess/{old.name}", f"B=preprocess/{new.name}").stdout
    assert "keys.audio.target_db: -20.0 -> -23.0" in told
    assert make("stale").stdout == ""
    record = project / "data" / "runs" / "preprocess" / new.name / "run.json"
    record.chmod(0o644)
    digest = record.read_text().split('"scripts/preprocess.py": "')[1][:64]
    record.write_text(record.read_text().replace(digest, "0" * 64))
    assert f"preprocess/{new.name}: made by other versions of scripts/preprocess.py" in make("stale").stdout


def test_a_failed_gate_holds_what_depends_on_it(make, project):
    """A second `make` must not walk past a gate that failed in the first."""
    import json

    make("collect")
    [record] = (project / "data" / "runs" / "collect").glob("*/run.json")
    facts = json.loads(record.read_text())
    facts["gate"]["checks"] = [{"name": "mean", "value": 0.5, "relation": ">=", "limit": 0.9, "passed": False}]
    record.chmod(0o644)
    record.write_text(json.dumps(facts))
    result = make("all", check=False)
    assert result.returncode == 2
    assert "collect: gate FAIL: mean is 0.5, must be >= 0.9" in result.stdout + result.stderr
    assert not list((project / "data" / "runs").glob("preprocess/*"))


def test_help_lists_every_verb(make):
    text = make("help").stdout
    verbs = {
        line.split(":")[0] for line in (ROOT / "Makefile").read_text().splitlines() if ": " in line and "## " in line
    }
    assert {"setup", "demo", "test"} <= verbs
    for verb in verbs | {"collect", "preprocess"}:
        assert verb in text


def test_a_stage_that_another_one_serves(make):
    """segment.method: none hands the clips of preprocess on."""
    assert dry_rules(make("-n", "diarize")) == ["collect", "preprocess", "diarize"]


def test_short_names(make):
    assert dry_rules(make("-n", "prepare"))[-1] == "prepare_dataset"
    assert dry_rules(make("-n", "prepare", "quality")) == [
        "collect", "preprocess", "diarize", "prepare_dataset", "quality_report",
    ]  # fmt: skip


def test_another_environment_is_set_up_where_a_stage_needs_it(make):
    dry = make("-n", "train_piper", "SET=train_piper.validated=false").stdout
    line = next(line for line in dry.splitlines() if "scripts/train_piper.py" in line)
    assert "docker/setup.py --env piper --wait && " in line and "piper/bin/python scripts/train_piper.py" in line
    assert "--env" not in next(line for line in dry.splitlines() if "scripts/collect.py" in line)
