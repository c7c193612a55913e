"""Runs on disk: one writer, a journal that survives a torn line, publishing whole or not at all."""

import hashlib
import os
import subprocess
import sys

import pytest

from voxmake.errors import BadInput, Failure, Locked, OutputExists
from voxmake.run.store import MANIFEST, Journal, Lock, WorkDir, check_run, files_below, read_manifest, remove_tree


def facts(data: bytes):
    return len(data), hashlib.sha256(data).hexdigest()


def publish(final, files, expected=None):
    work = WorkDir(final)
    for name, data in files.items():
        (work.path / name).parent.mkdir(parents=True, exist_ok=True)
        (work.path / name).write_bytes(data)
    work.publish(files, expected or {}, "voxmake test/abc version 1")
    return work


def test_a_published_run_is_whole_read_only_and_alone(tmp_path):
    final = tmp_path / "stage" / "abc"
    publish(final, {"audio/a.wav": b"12345", "metadata.csv": b"x\n"})
    assert sorted(path.name for path in final.parent.iterdir()) == ["abc"]
    assert list(files_below(final)) == [MANIFEST, "metadata.csv", "audio/a.wav"]
    assert read_manifest(final) == {"audio/a.wav": facts(b"12345"), "metadata.csv": facts(b"x\n")}
    assert all(not path.stat().st_mode & 0o222 for path in [final, *final.rglob("*")])
    assert check_run(final, full=True) == []


def test_the_manifest_is_what_sha256sum_checks(tmp_path):
    final = tmp_path / "stage" / "abc"
    publish(final, {"audio/a.wav": b"12345"})
    subprocess.run(["sha256sum", "--check", "--strict", MANIFEST], cwd=final, check=True, capture_output=True)


def test_what_no_item_owns_is_removed_before_publishing(tmp_path):
    final = tmp_path / "stage" / "abc"
    work = WorkDir(final)
    (work.path / "audio").mkdir()
    (work.path / "audio" / "half.wav").write_bytes(b"half")
    (work.path / "a.txt").write_bytes(b"a")
    work.publish(["a.txt"], {}, "header")
    assert list(files_below(final)) == [MANIFEST, "a.txt"]


def test_a_file_that_is_not_what_its_worker_wrote_stops_the_publishing(tmp_path):
    final = tmp_path / "stage" / "abc"
    with pytest.raises(Failure, match=r"a\.txt: not what its worker wrote"):
        publish(final, {"a.txt": b"torn"}, expected={"a.txt": facts(b"whole")})
    assert not final.exists()


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (lambda run: (run / "a.txt").unlink(), "a.txt: missing"),
        (lambda run: (run / "a.txt").write_bytes(b"1"), "a.txt: 1 bytes, the manifest says 5"),
        (lambda run: (run / "a.txt").write_bytes(b"12349"), "a.txt: content differs"),
        (lambda run: (run / "b.txt").write_bytes(b""), "b.txt: not in the manifest"),
    ],
)
def test_harm_to_a_published_run_is_named(tmp_path, harm, fault):
    final = tmp_path / "stage" / "abc"
    publish(final, {"a.txt": b"12345"})
    final.chmod(0o755)
    for path in final.iterdir():
        path.chmod(0o644)
    harm(final)
    [told] = check_run(final, full=True)
    assert fault in told
    assert (check_run(final, full=False) == []) == ("content" in fault)  # sizes are always compared


def test_damaged_or_missing_manifest_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="no finished run there"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST).write_text("# header\n# x bytes\nabc  name\n")
    with pytest.raises(BadInput, match="damaged"):
        read_manifest(tmp_path)


def test_the_second_writer_is_told_to_come_back(tmp_path):
    first = WorkDir(tmp_path / "stage" / "abc")
    with pytest.raises(Locked, match=rf"another run holds .*pid {os.getpid()}"):
        WorkDir(tmp_path / "stage" / "abc")
    assert Lock.is_held(first.lock.path)
    first.close()
    WorkDir(tmp_path / "stage" / "abc").close()
    assert not Lock.is_held(first.lock.path)


def test_the_kernel_drops_the_lock_of_a_killed_process(tmp_path):
    script = (
        "import os, signal, sys, pathlib; from voxmake.run.store import WorkDir;"
        "WorkDir(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), signal.SIGKILL)"
    )
    final = tmp_path / "stage" / "abc"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", script, str(final)], env=environment, check=False)
    assert killed.returncode == -9
    WorkDir(final).close()


def test_a_finished_run_is_never_written_again(tmp_path):
    final = tmp_path / "stage" / "abc"
    publish(final, {"a.txt": b"1"})
    with pytest.raises(OutputExists):
        WorkDir(final)
    assert sorted(path.name for path in final.parent.iterdir()) == ["abc"]


@pytest.mark.parametrize("torn", [b'{"id": "3", "ro', b"\0\0\0", b"{"])
def test_a_torn_journal_line_is_cut_off(tmp_path, torn):
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.append({"id": "1", "text": "größe\n"})
    journal.append({"id": "2"})
    journal.close()
    with path.open("ab") as stream:
        stream.write(torn)
    journal = Journal(path)
    assert journal.entries == [{"id": "1", "text": "größe\n"}, {"id": "2"}]
    journal.append({"id": "3"})
    journal.close()
    assert [entry["id"] for entry in Journal(path).entries] == ["1", "2", "3"]


def test_a_read_only_run_can_be_removed(tmp_path):
    final = tmp_path / "stage" / "abc"
    publish(final, {"audio/a.wav": b"12345"})
    remove_tree(final)
    assert not final.exists()
