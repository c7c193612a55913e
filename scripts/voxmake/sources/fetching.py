"""One recording's bytes, copied or downloaded, whole or cut."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from voxmake.errors import Rejected
from voxmake.sources.header import segment_bytes, wav_layout
from voxmake.sources.model import Recording, RemoteFile

CHUNK_BYTES = 1 << 20


def fetch(recording: Recording, target: Path) -> tuple[str, int]:
    """Writes the recording to `target` (replaced if it is there) and returns its sha256 and size in bytes.

    Raises:
        Rejected: this file can't be had; `target` is gone then.
        ConfigError: the GitLab server refuses the token, so no other file can be had either.
        OSError: `target` can't be written, e.g. the disk is full.
    """
    try:
        with target.open("w+b") as out:
            if recording.remote:
                return _download(recording.remote, out)
            return _copy(recording, out)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _download(remote: RemoteFile, out: BinaryIO) -> tuple[str, int]:
    from voxmake.sources.gitlab_client import Project  # python-gitlab is slow to import

    sha256, size_bytes = Project(remote.url, remote.project, remote.token_file).download(remote, out)
    if size_bytes == 0:
        raise Rejected("empty_file", remote.path)
    return sha256, size_bytes


def _copy(recording: Recording, out: BinaryIO) -> tuple[str, int]:
    path = recording.path
    # O_NONBLOCK: opening a pipe that took the file's place since the listing must not hang
    descriptor = _tell(path, lambda: os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise Rejected("not_regular_file", path.name)
        digest, size_bytes = hashlib.sha256(), 0
        with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
            for chunk in _chunks(recording, file, before.st_size):
                out.write(chunk)
                digest.update(chunk)
                size_bytes += len(chunk)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    whole = recording.start_s is None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or (
        whole and size_bytes != before.st_size
    ):
        raise Rejected("changed_while_read", f"{path.name}: {before.st_size} bytes before, {after.st_size} after")
    return digest.hexdigest(), size_bytes


def _chunks(recording: Recording, file: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    path, length, padding = recording.path, size_bytes, False
    if recording.start_s is not None:
        layout = _tell(path, lambda: wav_layout(file, size_bytes))
        if layout is None:
            raise Rejected("segment_not_wav", path.name)
        header, offset, length = segment_bytes(layout, recording.start_s, recording.end_s)
        file.seek(offset)
        padding = length % 2 == 1
        yield header
    while length > 0 and (chunk := _tell(path, lambda: file.read(min(CHUNK_BYTES, length)))):  # noqa: B023 - called at once
        length -= len(chunk)
        yield chunk
    if length > 0:
        raise Rejected("changed_while_read", f"{path.name}: {length} bytes less than a moment before")
    if padding:
        yield b"\0"


def _tell(path: Path, read: Callable[[], Any]) -> Any:
    """A reading error is the item's; a writing error, which stays an OSError, is the machine's."""
    try:
        return read()
    except FileNotFoundError:
        raise Rejected("missing_file", path.name) from None
    except OSError as error:
        reason = "not_regular_file" if path.is_symlink() else "unreadable"
        raise Rejected(reason, f"{path.name}: {error.strerror}") from None
