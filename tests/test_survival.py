"""Killed, out of room, locked, shuffled: what is published is always whole and always the same."""

import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import audio_folder

ROOT = Path(__file__).resolve().parents[1]


def script(project: Path, name: str, *flags: str, data: str = "data", **popen) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), "--config", str(project / "x.yaml"), *flags]
    environment = os.environ | {"VOXMAKE_DATA": str(project / data)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, **popen)


def run(project: Path, name: str, *flags: str, data: str = "data", timeout_s: int = 120) -> tuple[int, str]:
    process = script(project, name, *flags, data=data)
    _, errors = process.communicate(timeout=timeout_s)
    assert "Traceback" not in errors
    return process.returncode, errors


def results(project: Path, data: str = "data") -> dict[str, str]:
    """Name -> sha256 of every published file, MANIFEST included; run.json and run.log tell of the run itself."""
    runs = project / data / "runs"
    return {
        path.relative_to(runs).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(runs.glob("*/[!.]*/**/*"))
        if path.is_file() and path.name not in ("run.json", "run.log")
    }


@pytest.fixture
def undisturbed(project):
    """A config of 24 clips, and the results of runs that nobody disturbed."""
    shutil.rmtree(project / "recordings")
    audio_folder(project / "recordings", clips=24)
    for name in ("collect", "preprocess"):
        code, errors = run(project, name, data="undisturbed")
        assert code == 0, errors
    return project, results(project, "undisturbed")


def kill(process: subprocess.Popen, whom: str) -> None:
    if whom != "group":
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
        os.killpg(process.pid, signal.SIGKILL)


def wipe(folder: Path) -> None:
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)  # published runs are read-only
    shutil.rmtree(folder)


def kill_and_resume(project: Path, name: str, chosen: random.Random, whom: str) -> bool:
    """Kill a script at a random instant, run it again; returns whether it was alive when killed."""
    process = script(project, name, start_new_session=True)
    time.sleep(chosen.uniform(0.1, 1.0))
    alive = process.poll() is None
    kill(process, whom)
    process.communicate()
    # Workers of a killed script die with it, at the latest a moment after.
    for _ in range(50):
        code, errors = run(project, name)
        if code != 75:
            break
        time.sleep(0.1)
    assert code == 0, errors
    return alive


@pytest.mark.parametrize("kills", [3, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize("whom", ["group", "script"])
def test_killed_at_random_instants(undisturbed, whom, kills):
    project, expected = undisturbed
    chosen, killed = random.Random(1), 0
    while killed < kills:
        killed += sum(kill_and_resume(project, name, chosen, whom) for name in ("collect", "preprocess"))
        assert results(project) == expected
        assert not list((project / "data").glob("runs/*/.tmp-*"))
        wipe(project / "data")


def kill_make(project: Path, chosen: random.Random, whom: str) -> bool:
    environments = project / "envs"
    if not environments.exists():
        environments.mkdir()
        (environments / "core").symlink_to(sys.prefix)
    if not (Path(sys.prefix) / ".ready").exists():
        pytest.skip("needs an environment made by `make setup`")
    command = ["make", f"ENVS={environments}", f"CONFIG={project / 'x.yaml'}", "all"]
    process = subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    time.sleep(chosen.uniform(0.2, 2.5))
    alive = process.poll() is None
    kill(process, whom)  # make alone: its script goes on as an orphan, under the lock
    process.wait()
    for _ in range(300):
        code = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if code.returncode == 0:
            return alive
        assert "another run holds" in code.stderr, code.stderr
        time.sleep(0.1)
    raise AssertionError("the orphan never ended")


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("whom", ["group", "make alone"])
def test_killed_make(undisturbed, whom, kills):
    project, expected = undisturbed
    chosen, killed = random.Random(1), 0
    while killed < kills:
        killed += kill_make(project, chosen, whom)
        assert results(project) == expected
        wipe(project / "data")


@pytest.mark.parametrize("workers", [1, 4])
def test_same_bytes_for_any_number_of_workers(undisturbed, workers):
    project, expected = undisturbed
    for name in ("collect", "preprocess"):
        assert run(project, name, "--set", f"execution.workers={workers}")[0] == 0
    assert results(project) == expected


def test_same_audio_for_shuffled_rows(undisturbed):
    project, expected = undisturbed
    header, *rows = (project / "recordings" / "metadata.csv").read_text().splitlines()
    random.Random(1).shuffle(rows)
    (project / "recordings" / "metadata.csv").write_text("\n".join([header, *rows]) + "\n")
    for name in ("collect", "preprocess"):
        assert run(project, name)[0] == 0

    def audio(found):
        return {Path(name).name: digest for name, digest in found.items() if "/audio/" in name and "preprocess" in name}

    assert audio(results(project)) == audio(expected) != {}


def test_terminated_says_so_and_goes_on(project):
    shutil.rmtree(project / "recordings")
    audio_folder(project / "recordings", clips=300, seconds=0.2)
    assert run(project, "collect")[0] == 0
    process = script(project, "preprocess", "--set", "execution.workers=1")
    while not any(b"\n" in path.read_bytes() for path in (project / "data").glob("runs/preprocess/.journal-*")):
        time.sleep(0.005)
        assert process.poll() is None
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "run again to go on" in errors
    code, errors = run(project, "preprocess")
    assert code == 0
    assert "of 300 clips are done already" in errors
    assert sum(name.endswith(".wav") and "preprocess" in name for name in results(project)) == 300


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a tmpfs of so many KiB as the data folder."""
    mounted = []

    def mount(kib: int) -> Path:
        folder = tmp_path / "small"
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("mounting a tmpfs needs root")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


# 24 clips of about 20 KiB each: room for nothing, for the journal, for some clips, for all but the manifest …
@pytest.mark.parametrize("kib", [4, 16, 64, 200, 400, 480, 500, 508])
def test_a_full_disk_stops_with_one_line_and_goes_on_when_there_is_room(undisturbed, small_disk, kib):
    project, expected = undisturbed
    small = small_disk(8192)
    code, errors = run(project, "collect", data="small")
    assert code == 0, errors
    used_kib = int(subprocess.run(["du", "-sk", small], capture_output=True, text=True, check=True).stdout.split()[0])
    subprocess.run(["mount", "-o", f"remount,size={used_kib + kib}k", small], check=True)
    code, errors = run(project, "preprocess", data="small")
    assert code == 70, errors
    assert "No space left on device" in errors
    assert "make room" in errors
    assert not list(small.glob("runs/preprocess/[!.]*"))
    subprocess.run(["mount", "-o", "remount,size=8192k", small], check=True)
    code, errors = run(project, "preprocess", data="small")
    assert code == 0, errors
    assert results(project, "small") == expected


def test_a_data_folder_that_cannot_be_written(project):
    (project / "data").write_text("a file in its place")
    code, errors = run(project, "collect")
    assert code == 70
    assert "can't be written" in errors
