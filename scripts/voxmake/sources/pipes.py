"""The three metadata files with pipes that text-to-speech tools read.

- ljspeech: `id|text` or `id|text|normalised text`, no header, no quoting; https://keithito.com/LJ-Speech-Dataset
  The normalised text (numbers and abbreviations spelled out) is what was spoken, so it is preferred.
- piper: `id|text` or `id|speaker|text`, no header; https://github.com/rhasspy/piper/blob/master/TRAINING.md
- coqui: header `audio_file|text|speaker_name|emotion_name`, CSV quoting; formatter `coqui` of 🐸TTS
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from voxmake.errors import BadInput, Rejected
from voxmake.sources.checks import file_label
from voxmake.sources.delimited import read_table
from voxmake.sources.rows import Collector, Place, read_lines
from voxmake.sources.tree import AUDIO_FOLDERS, id_of_file

COLUMNS = (2, 3)
AUDIO_LIES_IN = (*AUDIO_FOLDERS, "")  # looked through in this order; "" is beside the metadata


@dataclass(frozen=True)
class PipeRow:
    number: int
    cells: list[str]
    broken: str


def metadata_files(place: Place) -> list[Path]:
    return [place.metadata or place.folder / "metadata.csv"]


def read_ljspeech(place: Place, out: Collector) -> None:
    _read_rows(place, out, lambda cells: ("", cells[2] if len(cells) > 2 and cells[2].strip() else cells[1]))


def read_piper(place: Place, out: Collector) -> None:
    _read_rows(place, out, lambda cells: (cells[1] if len(cells) > 2 else "", cells[-1]))


def split_rows(file: Path) -> list[PipeRow]:
    return [PipeRow(line.number, line.text.split("|"), line.broken) for line in read_lines(file)]


def _read_rows(place: Place, out: Collector, speaker_and_text: Callable[[list[str]], tuple[str, str]]) -> None:
    [file] = metadata_files(place)
    rows = split_rows(file)
    columns = usual_columns(rows)
    if columns not in COLUMNS:
        raise BadInput(f"{file_label(file)}: its rows have {columns} columns, 2 or 3 are expected (id|text)")
    for row in rows:
        where, name = place.where(file, row.number), row.cells[0].strip()
        with out.row(where, name):
            if row.broken:
                raise Rejected("bad_encoding", row.broken)
            if len(row.cells) != columns:
                raise Rejected("bad_columns", f"{len(row.cells)} columns, the other rows have {columns}")
            if not name:
                raise Rejected("empty_id")
            speaker, text = speaker_and_text(row.cells)
            path = place.audio.locate_stem(name, AUDIO_LIES_IN)
            out.keep(where, _id(place, name, path), path, text, speaker=speaker)


def usual_columns(rows: list[PipeRow]) -> int:
    """The column count of most rows; a pipe inside a text then spoils that row only."""
    counts = Counter(len(row.cells) for row in rows)
    return min(counts, key=lambda columns: (-counts[columns], columns not in COLUMNS, columns))


def _id(place: Place, name: str, path: Path) -> str:
    """The id as written, unless it is a file name: then as every format with file names makes it."""
    relative = place.audio.relative(path)
    return id_of_file(relative) if name.casefold().endswith(path.suffix.casefold()) else name


def read_coqui(place: Place, out: Collector) -> None:
    [file] = metadata_files(place)
    header, rows = read_table(file, "|")
    if "audio_file" not in header or "text" not in header:
        raise BadInput(f"{file_label(file)}: the header lacks audio_file or text (it has {', '.join(header)})")
    for row in rows:
        fields = dict(zip(header, row.cells, strict=False))
        where, name = place.where(file, row.number), fields.get("audio_file", "")
        with out.row(where, name):
            if row.reason:
                raise Rejected(row.reason, row.detail)
            path = place.audio.locate(name)
            text, speaker = fields["text"], fields.get("speaker_name", "")
            out.keep(where, id_of_file(place.audio.relative(path)), path, text, speaker=speaker)
