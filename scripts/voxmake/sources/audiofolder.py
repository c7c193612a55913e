"""Hugging Face AudioFolder: metadata.csv, metadata.jsonl or metadata.parquet beside the audio.

https://huggingface.co/docs/datasets/audio_dataset#audiofolder. `file_name` is relative to its metadata
file; subfolders (train/, test/) may each have a metadata file of their own. voxmake's own audio sets
follow the same convention. Parquet files that hold the audio itself are not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from voxmake.errors import BadInput, Rejected
from voxmake.sources.checks import file_label
from voxmake.sources.delimited import read_table
from voxmake.sources.rows import Collector, Place, read_lines
from voxmake.sources.tree import id_of_file, walk

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_COLUMNS = ("file_name", "audio_file_name")
TEXT_COLUMNS = ("transcription", "text", "sentence", "transcript")
SPEAKER_COLUMNS = ("speaker_id", "speaker", "speaker_name")
LANGUAGE_COLUMNS = ("language", "locale", "lang")
# columns known to hold no transcript; any other one might, so it is asked about
OTHER_COLUMNS = ("id", "split", "label", "duration", "duration_s", "sampling_rate", "sample_rate_hz", "age", "gender")


@dataclass(frozen=True)
class Record:
    number: int
    fields: dict[str, object]
    rejected: Rejected | None = None


def metadata_files(place: Place) -> list[Path]:
    if place.metadata:
        return [place.metadata]
    return [place.folder / name for name in walk(place.folder) if Path(name).name in METADATA_NAMES]


def read(place: Place, out: Collector) -> None:
    for file in metadata_files(place):
        _read_file(place, file, out)


def _read_file(place: Place, file: Path, out: Collector) -> None:
    columns, records = _records(file)
    file_column = _find(columns, FILE_COLUMNS)
    if not file_column:
        raise BadInput(
            f"{file_label(file)}: no column `file_name` (there are: {', '.join(columns)}): add it, or name a `format:`"
        )
    text_column = _text_column(place, file, columns)
    if text_column and not any(record.fields.get(text_column) for record in records):
        text_column = ""  # the column is there and holds nothing at all: a set without transcripts
    id_column, speaker_column, language_column = (
        _find(columns, names) for names in (("id",), SPEAKER_COLUMNS, LANGUAGE_COLUMNS)
    )
    # an explicit audio_root wins; otherwise names start at their own metadata file
    below = "" if place.source.audio_root else place.audio.relative(file.parent)
    for record in records:
        where = place.where(file, record.number)
        name = _text(record.fields.get(file_column), lenient=True)
        with out.row(where, name):
            if record.rejected:
                raise record.rejected
            path = place.audio.locate(str(Path(below, name)) if name else "")
            out.keep(
                where,
                _text(record.fields.get(id_column)) or id_of_file(place.audio.relative(path)),
                path,
                _text(record.fields.get(text_column)) if text_column else None,
                speaker=_text(record.fields.get(speaker_column), lenient=True),
                language=_text(record.fields.get(language_column), lenient=True),
            )


def _find(columns: list[str], names: tuple[str, ...]) -> str:
    """The column that bears the first of `names` found, whatever its case; "" when none does."""
    folded = {column.casefold(): column for column in reversed(columns)}
    return next((folded[name] for name in names if name in folded), "")


def _text_column(place: Place, file: Path, columns: list[str]) -> str:
    if wanted := place.source.text_column:
        if wanted not in columns:
            raise BadInput(f"{file_label(file)}: no column `{wanted}` (text_column); there are: {', '.join(columns)}")
        return wanted
    if found := _find(columns, TEXT_COLUMNS):
        return found
    known = FILE_COLUMNS + SPEAKER_COLUMNS + LANGUAGE_COLUMNS + OTHER_COLUMNS
    if unknown := [column for column in columns if column.casefold() not in known]:
        raise BadInput(
            f"{file_label(file)}: which column is the transcript? It has {', '.join(unknown)}: "
            f"rename it to `transcription`, or set `text_column:`"
        )
    return ""


def _text(value: object, lenient: bool = False) -> str:
    """A field as text; a number may name a speaker or file, it is no transcript."""
    if value is None:
        return ""
    if isinstance(value, str) or lenient:
        return str(value)
    raise Rejected("bad_columns", f"text is expected where {type(value).__name__} stands")


def _records(file: Path) -> tuple[list[str], list[Record]]:
    """The columns, and every row by them."""
    if file.suffix == ".parquet":
        records = list(_parquet_records(file))
    elif file.suffix == ".jsonl":
        records = list(json_records(file))
    else:
        header, rows = read_table(file, ",")
        return header, [
            Record(
                row.number,
                dict(zip(header, row.cells, strict=False)),
                Rejected(row.reason, row.detail) if row.reason else None,
            )
            for row in rows
        ]
    if not records:
        raise BadInput(f"{file_label(file)}: it holds no rows: write one row per recording into it")
    return list(dict.fromkeys(column for record in records for column in record.fields)), records


def json_records(file: Path) -> Iterator[Record]:
    """One JSON object per line: metadata.jsonl and NeMo manifests."""
    for line in read_lines(file):
        if line.broken:
            yield Record(line.number, {}, Rejected("bad_encoding", line.broken))
            continue
        try:
            fields = json.loads(line.text)
        except (ValueError, RecursionError) as error:
            yield Record(line.number, {}, Rejected("bad_json", str(error)))
            continue
        if isinstance(fields, dict):
            yield Record(line.number, fields)
        else:
            yield Record(line.number, {}, Rejected("bad_json", f"a {type(fields).__name__}, not an object"))


def _parquet_records(file: Path) -> Iterator[Record]:
    import pyarrow as pa  # heavy: only when a source is Parquet
    import pyarrow.parquet as pq

    known = FILE_COLUMNS + TEXT_COLUMNS + SPEAKER_COLUMNS + LANGUAGE_COLUMNS + OTHER_COLUMNS
    if not file.is_file():  # opening a pipe would hang
        raise BadInput(f"{file_label(file)}: it is no regular file")
    try:
        table = pq.ParquetFile(file)
        # structs and lists (embedded audio, features) can be gigabytes and are nothing we read
        wanted = [f.name for f in table.schema_arrow if not pa.types.is_nested(f.type) or f.name.casefold() in known]
        number = 0
        for batch in table.iter_batches(columns=wanted):
            for fields in batch.to_pylist():
                number += 1
                yield Record(number, fields)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{file_label(file)}: it is no readable Parquet file: {error}") from None
