"""Content digests of files from outside, remembered so that a plan does not read them twice.

A remembered digest counts only while size, mtime, ctime and inode are unchanged, so a file replaced
by an older one (`cp -p`, rsync, git) is read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from voxmake.errors import BadInput, ConfigError

_BLOCK_BYTES = 1 << 20
# A file changed this recently could change again within one tick of the file system's clock.
_SETTLED_AFTER_NS = 2_000_000_000


def digest_of(*values: Any) -> str:
    """16 hex digits of the sha256 of plain data as canonical JSON."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def tree_digest(files: Iterable[Path], root: Path, cache: Path | None = None) -> str:
    """One digest over many files: their paths below root and their bytes.

    Args:
        files: regular files below root, in any order. What is not a regular file counts by its
            path alone (the stage that reads it will reject it).
        root: folder that names are taken from.
        cache: an sqlite file of remembered digests; None reads every file.
    """
    names = sorted((path.relative_to(root).as_posix(), path) for path in files)
    digest = hashlib.sha256()
    for (name, _), content in zip(names, _digests([path for _, path in names], cache), strict=True):
        digest.update(f"{content}  {name}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def remembered_sha256(path: Path, cache: Path | None) -> str:
    """sha256 of one regular file, hex, from the cache while the file is unchanged."""
    return _digests([path], cache)[0]


def folder_digest(folder: str | None) -> dict[str, str]:
    """For Stage.outside: what a model's folder holds, by content; nothing where the config names none.

    Args:
        folder: absolute, or relative to the project's folder.

    Raises:
        ConfigError: it is no folder, or empty.
    """
    from voxmake.run.stage import PROJECT_ROOT, data_root

    if folder is None:
        return {}
    root = PROJECT_ROOT / folder
    files = [path for path in root.rglob("*") if path.is_file()]
    if not files:
        raise ConfigError(f"model: {root} is no folder with files; download the model there first")
    return {"model": tree_digest(files, root, cache=data_root() / ".cache" / "digests.sqlite")}


def _stamp(path: Path) -> tuple[int, int, int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if not os.path.isfile(path) or os.path.islink(path):  # noqa: PTH113, PTH114 - called 100 000 times
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _digests(paths: list[Path], cache: Path | None) -> list[str]:
    stamps = [_stamp(path) for path in paths]
    with _remembered(cache) as table:
        found = table.get_many([str(path) for path in paths])
        todo = [
            index
            for index, (path, stamp) in enumerate(zip(paths, stamps, strict=True))
            if stamp is not None and found.get(str(path), (None,))[:-1] != stamp
        ]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashlib lets go of the GIL
            fresh = dict(zip(todo, pool.map(_read, (paths[index] for index in todo)), strict=True))
        settled_before = time.time_ns() - _SETTLED_AFTER_NS
        table.put_many(
            (str(paths[index]), *stamps[index], content)
            for index, content in fresh.items()
            if stamps[index][2] < settled_before and stamps[index] == _stamp(paths[index])
        )
    return [
        "-" if stamp is None else fresh.get(index) or found[str(path)][-1]
        for index, (path, stamp) in enumerate(zip(paths, stamps, strict=True))
    ]


def _read(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise BadInput(f"{path}: can't be read: {error.strerror}; check its permissions") from None


class _Table:
    def __init__(self, connection: sqlite3.Connection | None):
        self.connection = connection

    def get_many(self, names: list[str]) -> dict[str, tuple]:
        if self.connection is None or not names:
            return {}
        wanted = set(names)
        rows = self.connection.execute("SELECT path, size, mtime_ns, ctime_ns, inode, sha256 FROM digests")
        return {row[0]: row[1:] for row in rows if row[0] in wanted}

    def put_many(self, rows: Iterable[tuple]) -> None:
        if self.connection is not None and (rows := list(rows)):
            # A cache that can't be written costs time, not correctness.
            with contextlib.suppress(sqlite3.OperationalError), self.connection:
                self.connection.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?)", rows)


@contextlib.contextmanager
def _remembered(cache: Path | None):
    connection = None
    if cache is not None:
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(cache, timeout=5)
            connection.execute(
                "CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER,"
                " ctime_ns INTEGER, inode INTEGER, sha256 TEXT)"
            )
        except (OSError, sqlite3.DatabaseError):  # read-only data/, or a damaged cache: read every file
            connection = None
    try:
        yield _Table(connection)
    finally:
        if connection is not None:
            connection.close()
