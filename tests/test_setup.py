"""docker/setup.py and the requirement files it installs."""

import fcntl
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from voxmake.run.stage import PROJECT_ROOT

SETUP = PROJECT_ROOT / "docker" / "setup.py"
REQUIREMENTS = sorted((PROJECT_ROOT / "docker" / "requirements").glob("*.txt"))
# Licences that may not enter the core environment: what is under them runs in a process of its own.
GPL = {"piper-tts", "espeakng", "phonemizer", "phonemizer-fork", "pedalboard", "praat-parselmouth", "unidecode"}


def entries(path: Path) -> list[str]:
    """Each requirement with the lines that belong to it."""
    return [part for part in re.split(r"^(?=[A-Za-z0-9])", path.read_text(), flags=re.MULTILINE) if "==" in part]


def name_of(entry: str) -> str:
    return re.split(r"[=\[ ]", entry, maxsplit=1)[0].lower().replace("_", "-")


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.stem)
def test_every_requirement_is_pinned_with_its_hash(path):
    for entry in entries(path):
        assert re.match(r"[A-Za-z0-9_.\[\]-]+==[^ ]+", entry)
        assert "--hash=sha256:" in entry, f"{path.name}: {name_of(entry)} has no hash"
    assert "://" not in path.read_text(), "an index or a file of one machine is named"


def test_the_pins_that_matter():
    core = {name_of(entry): entry for entry in entries(PROJECT_ROOT / "docker/requirements/core.txt")}
    assert int(re.search(r"==(\d+)", core["setuptools"])[1]) < 82, "resemblyzer and others import pkg_resources"
    assert "triton" not in core and "torch" not in core, "torch is installed first, by its own step"
    assert not GPL & core.keys()
    for path in REQUIREMENTS:
        if path.stem not in runpy.run_path(str(SETUP))["ENVIRONMENTS"]:
            assert not {name_of(entry) for entry in entries(path)} & core.keys(), f"{path.name} pins what core pins"


def environment_like(folder: Path, monkeypatch) -> Path:
    """A finished environment as far as set-up can see."""
    monkeypatch.setenv("VOXMAKE_ENVS", str(folder))
    setup = runpy.run_path(str(SETUP))
    (folder / "core").mkdir()
    stamp = folder / "core" / ".ready"
    stamp.write_text(setup["stamp_of"](setup["requirement_files"]([])))
    return stamp


def run_setup(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SETUP, *args], capture_output=True, text=True, check=False)


def test_up_to_date_does_nothing(tmp_path, monkeypatch):
    stamp = environment_like(tmp_path, monkeypatch)
    os.utime(stamp, (1, 1))
    result = run_setup()
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert stamp.stat().st_mtime > 1, "make would run set-up for ever"
    assert [path.name for path in (tmp_path / "core").iterdir() if path.name != ".lock"] == [".ready"]


def test_two_at_once(tmp_path, monkeypatch):
    environment_like(tmp_path, monkeypatch)
    with (tmp_path / "core" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run_setup()
    assert result.returncode == 75
    assert "another set-up is at work" in result.stderr and "Traceback" not in result.stderr


def test_unknown_group_names_the_known_ones(tmp_path, monkeypatch):
    environment_like(tmp_path, monkeypatch)
    result = run_setup("--group", "nonsense")
    assert result.returncode == 2 and "there are: " in result.stderr


def test_environments_are_no_groups(tmp_path, monkeypatch):
    environment_like(tmp_path, monkeypatch)
    assert run_setup("--group", "piper").returncode == 2
    assert run_setup("--env", "piper", "--group", "bench").returncode == 2


def test_another_environment_that_is_up_to_date(tmp_path, monkeypatch):
    monkeypatch.setenv("VOXMAKE_ENVS", str(tmp_path))
    setup = runpy.run_path(str(SETUP))
    (tmp_path / "piper").mkdir()
    stamp = tmp_path / "piper" / ".ready"
    stamp.write_text(setup["stamp_of"](setup["requirement_files"]([], "piper")))
    result = run_setup("--env", "piper", "--wait")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_old_python_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("VOXMAKE_ENVS", str(tmp_path))
    setup = runpy.run_path(str(SETUP))
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    with pytest.raises(setup["SetupError"], match=r"needs 3\.11") as error:
        setup["main"]([])
    assert error.value.exit_code == 2
