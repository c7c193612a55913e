"""Runs on disk: the lock, the journal, the atomic publish, and the manifest that proves a run.

    data/runs/<stage>/<hash12>/        published, read-only, complete
    data/runs/<stage>/.tmp-<hash12>/   work in progress; survives a kill
    data/runs/<stage>/.journal-<hash12>  its finished items, one a line
    data/runs/<stage>/.lock-<hash12>   held while someone works on it

MANIFEST.sha256 is the sentinel. It lists every result file in the format of `sha256sum -c`, each
behind a comment with its size. run.json and run.log tell how this run went (times, host, workers);
they differ between two runs of the same work, so the manifest does not list them.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from voxmake.errors import BadInput, Failure, Locked, OutputExists
from voxmake.run.digest import file_sha256

MANIFEST = "MANIFEST.sha256"
RECORDS = ("run.json", "run.log")  # about the run, not results: not in the manifest


def write_atomic(path: Path, text: str) -> None:
    """Replace a small file so that a reader sees the old text or the new one, never half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


# ---------------------------------------------------------------------------- lock


class Lock:
    """An flock on a file beside the run. The kernel drops it when its holder dies, however."""

    def __init__(self, path: Path):
        self.path = path
        while True:
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(self.fd, 100).decode(errors="replace").strip()
                os.close(self.fd)
                raise Locked(
                    f"{path.parent.name}: another run holds {path} ({holder}); wait for it, then try again"
                ) from None
            # The last holder removes the file; a lock on a removed file locks nothing.
            if path.exists() and os.fstat(self.fd).st_ino == path.stat().st_ino:
                break
            os.close(self.fd)
        os.ftruncate(self.fd, 0)
        os.write(self.fd, f"pid {os.getpid()} on {os.uname().nodename}\n".encode())

    def release(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self.fd)

    @staticmethod
    def is_held(path: Path) -> bool:
        """Whether a process holds the lock now."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False


# ---------------------------------------------------------------------------- journal


class Journal:
    """An append-only list of finished items; the only thing a resumed run trusts.

    One JSON object a line, written by one process in one write(2). A torn last line, left by a kill
    or a full disk, is cut off when the journal is opened again.
    """

    def __init__(self, path: Path):
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with os.fdopen(os.dup(self.fd), "rb") as stream:
            content = stream.read()
        whole = content.rfind(b"\n") + 1
        os.ftruncate(self.fd, whole)
        os.lseek(self.fd, 0, os.SEEK_END)
        self.entries: list[dict] = [json.loads(line) for line in content[:whole].split(b"\n") if line]

    def append(self, entry: dict) -> None:
        line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape") + b"\n"
        written = os.write(self.fd, line)
        if written < len(line):  # a full disk: the next write raises ENOSPC
            os.write(self.fd, line[written:])

    def close(self) -> None:
        os.close(self.fd)


# ---------------------------------------------------------------------------- work in progress


class WorkDir:
    """The folder a run is made in, held under its lock from opening to publishing."""

    def __init__(self, final: Path):
        self.final = final
        self.path = final.with_name(f".tmp-{final.name}")
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            self.lock = Lock(final.with_name(f".lock-{final.name}"))
        except (PermissionError, NotADirectoryError, FileExistsError) as error:
            raise Failure(
                f"{final.parent}: can't be written: {error.strerror}; check its owner and permissions"
            ) from None
        if final.exists():  # published while we waited for nobody: a finished run is never written again
            self.lock.release()
            raise OutputExists(f"{final}: exists already; choose a fresh --output")
        self.path.mkdir(exist_ok=True)
        _set_writable(self.path, True)  # a kill between "make read-only" and "rename" leaves it so
        # Beside the folder, not in it: it must last until the rename, and not a moment longer.
        self.journal = Journal(final.with_name(f".journal-{final.name}"))

    def publish(self, results: Iterable[str], expected: dict[str, tuple[int, str]], header: str) -> None:
        """Make the folder the finished run: verify, list, sync, rename.

        Args:
            results: names of all result files, relative; anything else in the folder is removed.
            expected: size and sha256 of the files that workers reported.
            header: the manifest's first line.

        Raises:
            Failure: a file is not what its worker wrote.
        """
        names = sorted(set(results))
        self._remove_strays({*names, *RECORDS})
        found = _sizes_and_digests(self.path, names)
        for name, facts in zip(names, found, strict=True):
            if facts is None or expected.get(name, facts) != facts:
                raise Failure(f"{self.path / name}: not what its worker wrote; run again to make it anew")
        lines = [f"# {header}"]
        for name, (size_bytes, digest) in zip(names, found, strict=True):
            lines += [f"# {size_bytes} bytes", f"{digest}  {name}"]
        (self.path / MANIFEST).write_text("\n".join(lines) + "\n", encoding="utf-8")
        _set_writable(self.path, False)
        _sync(self.path)
        self.path.rename(self.final)
        _sync(self.final.parent)
        self.journal.path.unlink()
        self.close()

    def _remove_strays(self, wanted: set[str]) -> None:
        """Files that no finished item owns: left by a killed worker."""
        for name in list(files_below(self.path)):
            if name not in wanted:
                (self.path / name).unlink()
        for folder, _, _ in os.walk(self.path, topdown=False):
            if Path(folder) != self.path and not any(Path(folder).iterdir()):
                Path(folder).rmdir()

    def close(self) -> None:
        """Stop without publishing; what the journal holds is kept for the next run."""
        self.journal.close()
        self.lock.release()


def files_below(root: Path) -> Iterator[str]:
    """Names of all files below root, relative, sorted within each folder."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            yield (Path(folder) / name).relative_to(root).as_posix()


def _sizes_and_digests(root: Path, names: list[str]) -> list[tuple[int, str] | None]:
    """Of every file, in the order of `names`; None where there is no regular file. Hard links are read once."""
    inodes: dict[str, int] = {}
    sizes: dict[int, int] = {}
    one_name: dict[int, str] = {}
    for name in names:
        path = root / name
        if path.is_file():
            status = path.stat()
            inodes[name], sizes[status.st_ino] = status.st_ino, status.st_size
            one_name.setdefault(status.st_ino, name)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(lambda name: file_sha256(root / name), one_name.values())
        found = {inode: (sizes[inode], digest) for inode, digest in zip(one_name, digests, strict=True)}
    return [found[inodes[name]] if name in inodes else None for name in names]


def _set_writable(root: Path, writable: bool) -> None:
    for folder, _, files in os.walk(root):
        for path in [Path(folder), *(Path(folder) / name for name in files)]:
            mode = path.stat().st_mode
            path.chmod(mode | stat.S_IWUSR if writable else mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))


def _sync(folder: Path) -> None:
    """Bring the folder's file system to disk: one syncfs(2) instead of one fsync(2) for each file."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(fd) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(folder))
        os.fsync(fd)
    finally:
        os.close(fd)


# ---------------------------------------------------------------------------- published runs


def read_manifest(run: Path) -> dict[str, tuple[int, str]]:
    """File name -> (size in bytes, sha256) of a published run."""
    path = run / MANIFEST
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise BadInput(f"{run}: no finished run there ({MANIFEST} is missing); run the stage that makes it") from None
    files: dict[str, tuple[int, str]] = {}
    for comment, entry in zip(lines[1::2], lines[2::2], strict=False):
        digest, _, name = entry.partition("  ")
        size = comment.removeprefix("# ").removesuffix(" bytes")
        if not (name and size.isdigit() and len(digest) == 64):
            raise BadInput(f"{path}: damaged; remove the run and make it again")
        files[name] = (int(size), digest)
    return files


def check_run(run: Path, full: bool) -> list[str]:
    """Compare a published run with its manifest.

    Args:
        full: compare sha256 as well; sizes are always compared.

    Returns:
        one line for each difference; empty if the run is whole.
    """
    files = read_manifest(run)
    known = {*files, *RECORDS, MANIFEST}
    faults = [f"{run / name}: not in the manifest" for name in files_below(run) if name not in known]

    def compare(item: tuple[str, tuple[int, str]]) -> str | None:
        name, (size_bytes, digest) = item
        path = run / name
        if not path.is_file():
            return f"{path}: missing"
        if (actual := path.stat().st_size) != size_bytes:
            return f"{path}: {actual} bytes, the manifest says {size_bytes}"
        if full and file_sha256(path) != digest:
            return f"{path}: content differs from the manifest"
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return faults + [fault for fault in pool.map(compare, files.items()) if fault]


def remove_tree(path: Path) -> None:
    """Delete a run or a work folder, read-only or not."""
    _set_writable(path, True)
    shutil.rmtree(path)
