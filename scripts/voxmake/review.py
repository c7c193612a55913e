"""What people decided while listening: corrections.csv, read back by diarize and prepare_dataset.

    target,id,action,value,note
    clip,kathleen_007,reject,,door slams
    clip,kathleen_009,text,It is ten o'clock.,
    clip,kathleen_011,speaker,S02,
    speaker,S01,rename,Kathleen,
    speaker,S03,merge,S01,
    speaker,S04,split,2,

The listening room saves such a file (docs/listening-room.md); any editor can write one. Rows are
applied in their order. `good` says that a clip was heard and is right: filters let it pass.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from voxmake.errors import BadInput
from voxmake.run.config import Section
from voxmake.run.digest import file_sha256
from voxmake.run.stage import PROJECT_ROOT

COLUMNS = ("target", "id", "action", "value", "note")
CLIP_ACTIONS = ("good", "reject", "text", "speaker")
SPEAKER_ACTIONS = ("rename", "merge", "split", "reject")
_WANTS_VALUE = {"text", "speaker", "rename", "merge", "split"}


class Review(Section):
    """What people decided while listening."""

    corrections: str | None = Field(
        None, description="corrections.csv as the listening room saves it; relative to the project's folder"
    )


@dataclass(frozen=True)
class Row:
    """One line of corrections.csv."""

    line: int
    target: str
    id: str
    action: str
    value: str
    note: str


@dataclass
class Corrections:
    """Verdicts by clip and by speaker; a later row on the same thing wins."""

    path: Path | None = None
    good: set[str] = field(default_factory=set)
    rejected: dict[str, str] = field(default_factory=dict)  # clip id -> note
    texts: dict[str, str] = field(default_factory=dict)  # clip id -> text
    moved: dict[str, str] = field(default_factory=dict)  # clip id -> speaker
    speakers: list[Row] = field(default_factory=list)  # in the order of the file


def digest(config: Any) -> dict[str, str]:
    """For Stage.outside: the file's content enters the hash of the stages that read it."""
    path = _path(config)
    return {} if path is None else {"corrections": file_sha256(path)}


def read_corrections(config: Any) -> Corrections:
    """The corrections that the config names; none if it names none.

    Raises:
        BadInput: a row that can't be understood, with its line number.
    """
    path = _path(config)
    found = Corrections(path)
    if path is None:
        return found
    for row in _rows(path):
        if row.target == "speaker":
            found.speakers.append(row)
            continue
        if row.action in ("good", "reject"):  # the last word on whether the clip stays
            found.good.discard(row.id)
            found.rejected.pop(row.id, None)
        if row.action == "good":
            found.good.add(row.id)
        elif row.action == "reject":
            found.rejected[row.id] = row.note
        elif row.action == "text":
            found.texts[row.id] = row.value
        else:
            found.moved[row.id] = row.value
    return found


def _path(config: Any) -> Path | None:
    if config.review.corrections is None:
        return None
    path = PROJECT_ROOT / config.review.corrections
    if not path.is_file():
        raise BadInput(f"review.corrections: {path} is not there; save it from the listening room, or take the key out")
    return path


def _rows(path: Path) -> list[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise BadInput(f"{path}:1: the first line must be {','.join(COLUMNS)}")
            rows = [_row(path, reader.line_num, cells) for cells in reader]
    except UnicodeDecodeError:
        raise BadInput(f"{path}: is not UTF-8; save it as UTF-8") from None
    _check_moves(path, rows)
    return rows


def _row(path: Path, line: int, cells: dict) -> Row:
    if None in cells or None in cells.values():
        raise BadInput(f"{path}:{line}: needs {len(COLUMNS)} columns; quote a text that holds a comma")
    row = Row(line, *(cells[column].strip() for column in COLUMNS))
    actions = {"clip": CLIP_ACTIONS, "speaker": SPEAKER_ACTIONS}.get(row.target)
    if actions is None:
        raise BadInput(f"{path}:{line}: target {row.target!r}: must be clip or speaker")
    if row.action not in actions:
        raise BadInput(f"{path}:{line}: action {row.action!r}: must be one of {', '.join(actions)}")
    if not row.id:
        raise BadInput(f"{path}:{line}: has no id")
    if row.action in _WANTS_VALUE and not row.value:
        raise BadInput(f"{path}:{line}: {row.action} needs a value")
    if row.action == "split" and not (row.value.isdigit() and int(row.value) >= 2):
        raise BadInput(f"{path}:{line}: split needs a number of speakers, 2 or more, not {row.value!r}")
    return row


def _check_moves(path: Path, rows: list[Row]) -> None:
    """A merge into a speaker that an earlier row renamed or merged away is a mistake, not a chain."""
    gone: dict[str, int] = defaultdict(int)
    for row in rows:
        if row.target == "speaker":
            if line := gone.get(row.id):
                raise BadInput(f"{path}:{row.line}: {row.id} is gone since line {line}: use its new name")
            if row.action in ("rename", "merge", "reject"):
                gone[row.id] = row.line
            gone.pop(row.value, None)
