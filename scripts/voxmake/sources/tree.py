"""The audio files under one folder, and the way from a name in metadata to one of them.

Nothing outside the folder is ever reached, and nothing but regular files: opening a pipe would
hang, a link may lead anywhere.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

from voxmake.errors import BadInput, Rejected
from voxmake.sources.checks import file_label, first_forbidden

# in the order of preference when one stem has several: lossless first
AUDIO_SUFFIXES = (
    ".wav", ".flac", ".aiff", ".aif", ".w64", ".caf", ".au", ".sph",
    ".opus", ".ogg", ".oga", ".webm", ".m4a", ".mp4", ".aac", ".mp3", ".wma", ".amr", ".3gp",
)  # fmt: skip
# folders that only hold the audio of one set: they say nothing about an item, so ids leave them out
AUDIO_FOLDERS = ("audio", "wavs", "wav", "clips")
LFS_POINTER_START = b"version https://git-lfs.github.com/spec/"
LFS_POINTER_MAX_BYTES = 1024  # by the Git LFS specification


def walk(folder: Path) -> Iterator[str]:
    """Every file below `folder` as a relative posix path, sorted, hidden ones left out, links not followed."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        raise BadInput(f"{file_label(folder)}: the folder can't be listed: {error.strerror}") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from (f"{entry.name}/{below}" for below in walk(Path(entry.path)))
        else:
            yield entry.name


def is_audio(name: str) -> bool:
    return name.lower().endswith(AUDIO_SUFFIXES)


def id_of_file(relative: str) -> str:
    """audio/ann/0001.flac -> ann/0001"""
    stem = relative.removesuffix(Path(relative).suffix)
    head, slash, tail = stem.partition("/")
    return tail if slash and head.lower() in AUDIO_FOLDERS else stem


class AudioTree:
    """The audio files under `root`, looked up by the names that metadata gives them."""

    def __init__(self, root: Path, hidden_folders: Iterable[str] = ()):
        self.root = root.resolve()
        self._hidden_folders = tuple(hidden_folders)
        self._safe_folders: dict[Path, bool] = {}
        self._asked: set[str] = set()

    @cached_property
    def names(self) -> list[str]:
        """The audio files by their paths relative to the root, sorted."""
        found = [name for name in walk(self.root) if is_audio(name)]
        for folder in self._hidden_folders:
            if (self.root / folder).is_dir():
                found += [f"{folder}/{name}" for name in walk(self.root / folder) if is_audio(name)]
        return sorted(found)

    @cached_property
    def _by_nfc(self) -> dict[str, str]:
        # macOS writes names decomposed, metadata is usually composed
        return {unicodedata.normalize("NFC", name): name for name in self.names}

    @cached_property
    def _by_stem(self) -> dict[str, str]:
        rank = {suffix: i for i, suffix in enumerate(AUDIO_SUFFIXES)}
        names = sorted(self.names, key=lambda name: (rank[Path(name).suffix.lower()], name), reverse=True)
        return {unicodedata.normalize("NFC", name.removesuffix(Path(name).suffix)): name for name in names}

    def unasked(self) -> list[str]:
        """The audio files that nobody has tried to locate."""
        return [name for name in self.names if name not in self._asked]

    def relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def locate(self, name: str) -> Path:
        """The regular file inside the root that `name`, relative or absolute, stands for."""
        if bad := first_forbidden(name):
            raise Rejected("bad_id", f"the file name holds {bad}")
        if not name.strip():
            raise Rejected("missing_file", "the row names no file")
        path = self._inside(name)
        if not _exists(path) and "\\" in name:  # written on Windows
            path = self._inside(name.replace("\\", "/"))
        if not _exists(path):
            known = self._by_nfc.get(unicodedata.normalize("NFC", self.relative(path)))
            path = self.root / known if known else path
        self._asked.add(self.relative(path))
        check_regular(path)
        return path

    def locate_stem(self, stem: str, folders: Iterable[str]) -> Path:
        """The file called `stem`, with any audio suffix or its own, in the first of `folders` that has it."""
        self._inside(stem)
        wanted = unicodedata.normalize("NFC", stem.replace("\\", "/"))
        for folder in folders:
            name = f"{folder}/{wanted}" if folder else wanted
            found = self._by_stem.get(name) or self._by_nfc.get(name)
            if found:
                return self.locate(found)
        raise Rejected("missing_file", f"no audio file called {stem}")

    def _inside(self, name: str) -> Path:
        path = Path(os.path.normpath(self.root / name))
        if not path.is_relative_to(self.root):
            raise Rejected("path_outside_root", f"{name} leaves the folder of the audio")
        folder = path.parent
        if folder not in self._safe_folders:  # a link on the way may lead out as well
            try:
                self._safe_folders[folder] = folder.resolve().is_relative_to(self.root)
            except (OSError, RuntimeError):  # RuntimeError: links in a circle
                self._safe_folders[folder] = False
        if not self._safe_folders[folder]:
            raise Rejected("path_outside_root", f"{name} leaves the folder of the audio through a link")
        return path


def _exists(path: Path) -> bool:
    try:
        os.lstat(path)
    except OSError:
        return False
    return True


def check_regular(path: Path) -> os.stat_result:
    """Its size and times, when it is a regular file that holds more than a Git LFS pointer."""
    try:
        found = os.lstat(path)
    except PermissionError:
        raise Rejected("unreadable", f"{path.name}: permission denied") from None
    except OSError as error:  # not there, a parent is a file, the name is longer than the file system allows
        raise Rejected("missing_file", f"{path.name}: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a link" if stat.S_ISLNK(found.st_mode) else "a folder" if stat.S_ISDIR(found.st_mode) else "no file"
        raise Rejected("not_regular_file", f"{path.name} is {kind}")
    if found.st_size == 0:
        raise Rejected("empty_file", path.name)
    if found.st_size <= LFS_POINTER_MAX_BYTES and is_lfs_pointer(path):
        raise Rejected("lfs_pointer", path.name)
    return found


def is_lfs_pointer(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Rejected("unreadable", f"{path.name}: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(len(LFS_POINTER_START)) == LFS_POINTER_START
