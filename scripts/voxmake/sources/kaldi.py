"""Kaldi data folders: wav.scp, text, utt2spk, segments; https://kaldi-asr.org/doc/data_prep.html

Rows are the utterances: the lines of `segments`, or those of wav.scp where there is no segments file.
An entry of wav.scp may be a command with a pipe in Kaldi; here it is rejected, never run. Its paths
usually start at the recipe's folder, not at the data folder: name that one with `audio_root:`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from voxmake.errors import Rejected
from voxmake.sources.rows import Collector, Place, read_lines
from voxmake.sources.segments import check_segment

FILES = ("wav.scp", "text", "utt2spk", "segments")


@dataclass(frozen=True)
class Entry:
    file: str
    number: int
    key: str
    value: str
    broken: str


def metadata_files(place: Place) -> list[Path]:
    others = [place.folder / name for name in FILES[1:]]
    return [place.folder / FILES[0], *(file for file in others if file.is_file())]


def read(place: Place, out: Collector) -> None:
    files = {file.name: file for file in metadata_files(place)}
    texts, speakers = (_by_key(files.get(name)) for name in ("text", "utt2spk"))
    segmented = "segments" in files
    rows_file = files["segments" if segmented else "wav.scp"]
    names = _by_key(files["wav.scp"]) if segmented else {}
    rows = _entries(rows_file)
    for row in rows:
        where = place.where(rows_file, row.number)
        with out.row(where, row.key):
            recording, start_s, end_s = _times(_readable(row)) if segmented else (row.key, None, None)
            entry = names.get(recording) if segmented else row
            if entry is None or not entry.value:
                raise Rejected("missing_file", f"wav.scp has no file for {recording}")
            name = _readable(entry).value
            if name.startswith("|") or name.endswith("|"):
                raise Rejected("command_in_metadata", name)
            path = place.audio.locate(name)
            if start_s is not None:
                check_segment(path, start_s, end_s)
            text = _readable(texts[row.key]).value if row.key in texts else "" if "text" in files else None
            speaker = speakers[row.key].value if row.key in speakers else ""
            out.keep(where, row.key, path, text, speaker=speaker, start_s=start_s, end_s=end_s)
    if "text" in files:
        _reject_leftovers(place, out, files["text"], {row.key for row in rows})


def _reject_leftovers(place: Place, out: Collector, file: Path, known: set[str]) -> None:
    """Transcripts that no utterance bears: a row in `text` must not vanish silently."""
    for entry in _entries(file):
        if entry.key not in known:
            with out.row(place.where(file, entry.number), entry.key):
                _readable(entry)
                raise Rejected("missing_file", "text has this utterance, segments or wav.scp has not")


def _readable(entry: Entry) -> Entry:
    if entry.broken:
        raise Rejected("bad_encoding", f"{entry.file}:{entry.number}: {entry.broken}")
    return entry


def _times(row: Entry) -> tuple[str, float, float | None]:
    fields = row.value.split()
    if len(fields) != 3:
        raise Rejected("bad_columns", f"{len(fields) + 1} columns, 4 are expected: utterance recording start end")
    try:
        start_s, end_s = float(fields[1]), float(fields[2])
    except ValueError:
        raise Rejected("bad_times", f"from {fields[1]} to {fields[2]}: not numbers") from None
    return fields[0], start_s, None if end_s == -1 else end_s  # -1: to the end of the recording


def _entries(file: Path) -> list[Entry]:
    entries = []
    for line in read_lines(file):
        key, _, value = line.text.strip(" \t").replace("\t", " ", 1).partition(" ")
        entries.append(Entry(file.name, line.number, key, value.strip(" \t"), line.broken))
    return entries


def _by_key(file: Path | None) -> dict[str, Entry]:
    """Of several lines with one key the first counts."""
    return {entry.key: entry for entry in reversed(_entries(file))} if file else {}
