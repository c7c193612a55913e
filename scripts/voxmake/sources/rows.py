"""Metadata files as lines and rows, and the collector that sorts every row into kept or rejected."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from voxmake.errors import BadInput, Rejected
from voxmake.sources.checks import check_id, check_text, file_label, id_key, printable
from voxmake.sources.model import Listing, Recording, RejectedRow, RemoteFile, Source
from voxmake.sources.tree import AudioTree, check_regular


@dataclass(frozen=True)
class Place:
    """Where a local source lies."""

    source: Source
    folder: Path  # of the source; `where` is relative to it
    metadata: Path | None  # the one metadata file, when the config names a file
    audio: AudioTree

    def where(self, file: Path, number: int) -> str:
        return f"{self.shown(file)}:{number}"

    def shown(self, file: Path) -> str:
        return printable(file.relative_to(self.folder).as_posix())


@dataclass(frozen=True)
class Line:
    number: int
    text: str
    broken: str = ""  # what is wrong with its bytes; `text` is then only good for showing


def read_lines(file: Path) -> list[Line]:
    """The lines of a UTF-8 file that hold anything, by "\\n" alone: U+2028 or a lone CR ends no line.

    A BOM and CRLF are accepted. Bytes that are not UTF-8 spoil their line, not the file.
    """
    raw = read_bytes(file)
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or (
        len(raw) >= 4 and (raw[:4:2] == b"\0\0" or raw[1:4:2] == b"\0\0")  # UTF-16 of Latin text, without a BOM
    ):
        raise BadInput(f"{file_label(file)}: it is UTF-16: save it as UTF-8")
    lines = []
    for number, piece in enumerate(raw.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        stripped = piece.removesuffix(b"\r")
        if not stripped.strip():
            continue
        try:
            lines.append(Line(number, stripped.decode()))
        except UnicodeDecodeError as error:
            broken = f"byte 0x{stripped[error.start]:02X} at position {error.start + 1} is not UTF-8"
            lines.append(Line(number, stripped.decode(errors="replace"), broken))
    if not lines:
        raise BadInput(f"{file_label(file)}: it is empty: write one row per recording into it")
    return lines


def read_bytes(file: Path) -> bytes:
    if not file.is_file():  # reading a pipe would hang
        raise BadInput(f"{file_label(file)}: it is no regular file")
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadInput(f"{file_label(file)}: it can't be read: {error.strerror}") from None


class Collector:
    """Checks every row and puts it into exactly one list of the listing.

    Of several rows with one id, the first that can be used keeps it.
    """

    def __init__(self, source: Source):
        self.listing = Listing()
        self._source = source
        self._taken: dict[str, str] = {}  # id key -> where

    @contextmanager
    def row(self, where: str, shown_id: str = "") -> Iterator[None]:
        """A `Rejected` raised inside lands in the list of rejected rows."""
        try:
            yield
        except Rejected as rejected:
            self.reject(where, shown_id, rejected.reason, rejected.detail)
        except OSError as error:  # its header could not be read
            self.reject(where, shown_id, "unreadable", str(error.strerror))

    def reject(self, where: str, shown_id: str, reason: str, detail: str = "") -> None:
        identifier = self._source.prefix + shown_id if shown_id else ""
        self.listing.rejected.append(RejectedRow(printable(identifier), where, reason, printable(detail)))

    def keep(
        self,
        where: str,
        raw_id: str,
        file: Path | RemoteFile,
        text: str | None,
        *,
        speaker: str = "",
        language: str = "",
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> None:
        """Adds one recording; `text` None: this source has no transcripts."""
        path, remote = (file, None) if isinstance(file, Path) else (None, file)
        identifier = check_id(raw_id, self._source.prefix)
        transcription = "" if text is None else check_text(text)
        size_bytes = check_regular(path).st_size if path else None
        key = id_key(identifier)
        if key in self._taken:
            raise Rejected("duplicate_id", f"the same id as {self._taken[key]}")
        self._taken[key] = where
        self.listing.recordings.append(
            Recording(
                id=identifier,
                transcription=transcription,
                speaker=check_label(speaker) or self._source.speaker,
                language=check_label(language) or self._source.language,
                where=where,
                path=path,
                remote=remote,
                size_bytes=size_bytes,
                start_s=start_s,
                end_s=end_s,
            )
        )

    def count(self, name: str, number: int) -> None:
        self.listing.counts[name] = self.listing.counts.get(name, 0) + number


def check_label(raw: str) -> str:
    """A speaker's or language's name; what would break a line of CSV is escaped."""
    return printable(raw.strip())
