"""A folder of recordings, with subfolders.

A text file beside a recording that bears its name (a.wav, a.txt) is its transcript, as in VCTK and in
corpora for the Montreal Forced Aligner, which also uses a.lab. When one recording has a transcript,
those without are rejected as empty_text; when none has, the source has no transcripts.
"""

from __future__ import annotations

import re
from pathlib import Path

from voxmake.errors import BadInput, Rejected
from voxmake.sources.rows import Collector, Place, read_bytes, read_lines
from voxmake.sources.tree import id_of_file

TIMED_LABEL = re.compile(r"\s*[\d.]+\s+[\d.]+\s")  # a.lab of HTS and Audacity holds times, not a transcript


def metadata_files(place: Place) -> list[Path]:
    return [file for name in place.audio.names if (file := _transcript_file(place.audio.root / name))]


def read(place: Place, out: Collector) -> None:
    root = place.audio.root
    transcripts = {name: _transcript_file(root / name) for name in place.audio.names}
    has_text = any(transcripts.values())
    for name, transcript in transcripts.items():
        where = place.where(transcript, 1) if transcript else place.shown(root / name)
        with out.row(where, id_of_file(name)):
            text = _text(transcript) if transcript else "" if has_text else None
            out.keep(where, id_of_file(name), place.audio.locate(name), text)


def _transcript_file(audio: Path) -> Path | None:
    for suffix in (".txt", ".lab"):
        file = audio.with_suffix(suffix)
        if file.is_file() and not file.is_symlink():
            with file.open("rb") as opened:
                start = opened.read(200).decode("utf-8", errors="replace")
            if suffix == ".txt" or not TIMED_LABEL.match(start):
                return file
    return None


def _text(file: Path) -> str:
    """The whole file as one line."""
    if not read_bytes(file).strip():
        raise Rejected("empty_text", f"{file.name} is empty")
    try:
        lines = read_lines(file)
    except BadInput as error:  # UTF-16: one item's trouble here, not the source's
        raise Rejected("bad_encoding", str(error)) from None
    if broken := next((line for line in lines if line.broken), None):
        raise Rejected("bad_encoding", f"{file.name}:{broken.number}: {broken.broken}")
    return " ".join(line.text.strip() for line in lines)
