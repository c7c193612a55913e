"""NeMo manifests: JSON lines with audio_filepath, text, duration and, for segments, offset.

https://docs.nvidia.com/nemo-framework/user-guide/latest/nemotoolkit/asr/datasets.html
NeMo reads `duration` seconds from `offset` on. So does voxmake: a row with an offset, or with a duration
clearly below that of its WAV or FLAC file, is a segment. Of other formats the header tells no sure length:
without an offset the whole file is taken. Tarred manifests are not read.
"""

from __future__ import annotations

import json
from pathlib import Path

from voxmake.errors import BadInput, Rejected
from voxmake.sources.audiofolder import LANGUAGE_COLUMNS, SPEAKER_COLUMNS, Record, json_records
from voxmake.sources.checks import file_label
from voxmake.sources.header import declared_duration_s
from voxmake.sources.rows import Collector, Place
from voxmake.sources.segments import check_segment, check_times, segment_id
from voxmake.sources.tree import id_of_file, walk

SUFFIXES = (".json", ".jsonl")
SNIFF_BYTES = 65_536


def is_manifest(file: Path) -> bool:
    """Its first line is an object with audio_filepath."""
    if file.suffix not in SUFFIXES or not file.is_file():
        return False
    with file.open("rb") as opened:
        first = opened.readline(SNIFF_BYTES)
    try:
        fields = json.loads(first.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and "audio_filepath" in fields


def metadata_files(place: Place) -> list[Path]:
    if place.metadata:
        return [place.metadata]
    return [place.folder / name for name in walk(place.folder) if is_manifest(place.folder / name)]


def read(place: Place, out: Collector) -> None:
    for file in metadata_files(place):
        records = list(json_records(file))
        text_key = place.source.text_column or "text"
        if place.source.text_column and not any(text_key in record.fields for record in records):
            raise BadInput(f"{file_label(file)}: no row has the key `{text_key}` (text_column)")
        below = "" if place.source.audio_root else place.audio.relative(file.parent)
        has_text = any(record.fields.get(text_key) for record in records)
        for record in records:
            where, name = place.where(file, record.number), str(record.fields.get("audio_filepath", ""))
            with out.row(where, name):
                _read_row(place, out, where, record, text_key if has_text else "", below)


def _read_row(place: Place, out: Collector, where: str, record: Record, text_key: str, below: str) -> None:
    if record.rejected:
        raise record.rejected
    fields = record.fields
    name = fields.get("audio_filepath")
    if not isinstance(name, str) or not name:
        raise Rejected("missing_file", "the row has no audio_filepath")
    path = place.audio.locate(str(Path(below, name)))
    start_s, end_s = _segment(fields, path)
    stem = id_of_file(place.audio.relative(path))
    if start_s is not None:
        check_segment(path, start_s, end_s)
        stem = segment_id(stem, start_s, end_s)
    text = fields.get(text_key) or ""
    if not isinstance(text, str):
        raise Rejected("bad_columns", f"text is a {type(text).__name__}")
    speaker, language = (
        next((str(fields[key]) for key in keys if fields.get(key) is not None), "")
        for keys in (SPEAKER_COLUMNS, LANGUAGE_COLUMNS)
    )
    own_id = fields.get("id")
    out.keep(
        where,
        str(own_id) if isinstance(own_id, str | int) else stem,
        path,
        text if text_key else None,
        speaker=speaker,
        language=language,
        start_s=start_s,
        end_s=end_s,
    )


def _segment(fields: dict[str, object], path: Path) -> tuple[float | None, float | None]:
    """Start and end in seconds, or two None for the whole file."""
    offset_s, duration_s = _seconds(fields, "offset"), _seconds(fields, "duration")
    start_s = offset_s or 0.0
    end_s = None if duration_s is None else start_s + duration_s
    check_times(start_s, end_s)
    if start_s > 0:
        return start_s, end_s
    declared_s = declared_duration_s(path)
    if end_s is None or declared_s is None:
        return None, None
    tolerance_s = max(0.1, 0.01 * declared_s)
    if end_s > declared_s + tolerance_s:
        raise Rejected("duration_mismatch", f"{end_s:g} s in the manifest, {declared_s:.3f} s in the file")
    return (0.0, end_s) if end_s < declared_s - tolerance_s else (None, None)


def _seconds(fields: dict[str, object], key: str) -> float | None:
    value = fields.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Rejected("bad_times", f"{key} is {value!r}, not a number")
    try:
        return float(value)
    except OverflowError:
        raise Rejected("bad_times", f"{key} is too large") from None
