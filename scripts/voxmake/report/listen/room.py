"""What the listening room shows, gathered from published runs: clips with their reasons, and speakers.

Every reader works from a run's folder alone and takes what is there: without a quality report the
room holds the speakers and some clips drawn at random, without a diarization only suspects and
samples. A clip stands in the room once, whatever lists name it.
"""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from voxmake.errors import BadInput
from voxmake.run.run import METADATA, REJECTED, read_table

# The runs that the room reads, by the name of the stage; `clips` is what diarize was given.
CLIPS, DIARIZE, PREPARE, QUALITY, VALIDATE = "clips", "diarize", "prepare_dataset", "quality_report", "whisper_validate"
# Columns that the page shows by other means; all others become a number or a fact of the clip.
_NOT_VALUES = {
    "id",
    "file_name",
    "transcription",
    "text",
    "speaker",
    "split",
    "reason",
    "reasons",
    "rank",
    "audio_sha256",
}
# A speaker's clips whose voice the clustering was not sure of; shown with the samples of the speaker.
_DOUBTS = {"uncertain": "voice is uncertain", "outlier": "voice is far from the speaker's others"}


@dataclass
class Clip:
    """One clip of the page.

    Attributes:
        id: as in every metadata.csv, and in corrections.csv.
        path: the audio, in a published run.
        text: the transcript as it came; `normalised` as a model reads it, if that is known.
        reasons: why it deserves a listener, in the words of the stage that found it.
        lists: the lists it stands in: "suspects", "samples", "random", "left_out", "misheard".
        rank: its place in suspects.tsv, from 1; 0 elsewhere.
        values: column name -> number or text, units in the names.
        heard: what a recogniser made of it; `diff`: that beside the text, word by word (asr.scoring.word_diff).
    """

    id: str
    path: Path
    text: str = ""
    normalised: str = ""
    speaker: str = ""
    split: str = ""
    reasons: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)
    rank: int = 0
    values: dict[str, float | str] = field(default_factory=dict)
    heard: str = ""
    diff: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Speaker:
    """One speaker cluster; no name stands for the clips that are no speaker's.

    Attributes:
        samples: (clip id, role) with role central, doubtful or noise.
    """

    name: str
    clips: int
    seconds: float
    samples: list[tuple[str, str]]


@dataclass
class Room:
    """All that one page shows."""

    clips: list[Clip]
    speakers: list[Speaker]


def read_room(runs: Mapping[str, Path], seed: int, drawn: int = 30) -> Room:
    """Gather a room.

    Args:
        runs: folders of published runs by name: clips, diarize, prepare_dataset, quality_report,
            whisper_validate. Any may be missing, as long as clips or prepare_dataset is there.
        seed: of the random choice.
        drawn: how many clips to draw at random when no quality report chose samples.

    Raises:
        BadInput: a run names a clip that no run holds, or a file outside its own folder.
    """
    known = _clips(runs)
    speakers = _speakers(runs[DIARIZE], known) if DIARIZE in runs else []
    if PREPARE in runs:
        _left_out(runs[PREPARE], known)
    if VALIDATE in runs:
        _recognised(runs[VALIDATE], known)
    if QUALITY in runs:
        _measured(runs[QUALITY], known)
        _listed(runs[QUALITY] / "suspects.tsv", "suspects", known)
        _listed(runs[QUALITY] / "samples.tsv", "samples", known)
    else:
        for clip_id in sorted(known, key=lambda clip_id: random.Random(f"{seed}/{clip_id}").random())[:drawn]:
            known[clip_id].lists.append("random")
    named = {clip_id for speaker in speakers for clip_id, _ in speaker.samples}
    return Room([clip for clip_id, clip in sorted(known.items()) if clip.lists or clip_id in named], speakers)


def _clips(runs: Mapping[str, Path]) -> dict[str, Clip]:
    """Every clip that could be heard, by id. What was prepared for training goes before what it was made from."""
    known: dict[str, Clip] = {}
    for name in (CLIPS, PREPARE):
        if name not in runs:
            continue
        for row in read_table(runs[name] / METADATA):
            clip = known.setdefault(row["id"], Clip(row["id"], Path()))
            clip.path = inside(runs[name], row["file_name"])
            clip.text = row.get("transcription") or clip.text
            clip.normalised = row.get("text") or ""
            clip.speaker = row.get("speaker") or clip.speaker
            clip.split = row.get("split") or ""
            clip.values |= _values(row)
    return known


def _speakers(run: Path, known: dict[str, Clip]) -> list[Speaker]:
    """The clusters of a diarize run, most speech first; puts speaker and doubt onto the clips."""
    noise = []
    for row in read_table(run / "speakers.csv"):
        clip = known.get(row["id"])
        if clip is None:
            continue
        clip.speaker = row["speaker"]
        clip.values |= _values({name: cell for name, cell in row.items() if name not in ("file_name", "id")})
        if doubt := _DOUBTS.get(row["state"]):
            clip.reasons.append(doubt)
        if row["state"] == "noise":
            clip.reasons.append("no speaker found")
            noise.append(clip)
    found = []
    for name, facts in json.loads((run / "speakers.json").read_text(encoding="utf-8")).items():
        for sample in facts["samples"]:
            if sample["id"] not in known:  # left out of the dataset: the copy that diarize made can still be heard
                known[sample["id"]] = Clip(sample["id"], inside(run, sample["file"]), speaker=name)
        samples = [(sample["id"], sample["role"]) for sample in facts["samples"]]
        found.append(Speaker(name, facts["clips"], facts["seconds"], samples))
    found.sort(key=lambda speaker: (-speaker.seconds, speaker.name))
    if noise:
        seconds = sum(float(clip.values.get("duration_s", 0)) for clip in noise)
        found.append(Speaker("", len(noise), round(seconds, 3), [(clip.id, "noise") for clip in noise[:_NOISE_SHOWN]]))
    return found


_NOISE_SHOWN = 24


def _left_out(run: Path, known: dict[str, Clip]) -> None:
    """What was not prepared for training, and why; a listener may find it good."""
    for row in read_table(run / REJECTED):
        if clip := known.get(row["id"]):
            clip.lists.append("left_out")
            clip.reasons.append(f"left out: {row['reason']}" + (f" ({row['detail']})" if row["detail"] else ""))


# Columns of validation.csv that become numbers of the clip.
_HEARD = ("similarity", "cer", "wer", "edge_start_cer", "edge_end_cer", "heard_language")


def _recognised(run: Path, known: dict[str, Clip]) -> None:
    """What a recogniser heard in every clip; where that is not the text, the clip stands in a list of its own."""
    from voxmake.asr.scoring import word_diff

    for row in read_table(run / "validation.csv"):
        clip = known.get(row["id"])
        if clip is None:
            continue
        clip.values |= _values({name: row[name] for name in _HEARD})
        clip.heard = row["hypothesis"]
        if row["class"] != "error":
            clip.diff = word_diff(row["reference_compared"], row["hypothesis_compared"])
        if row["passed"] == "no":
            clip.lists.append("misheard")
            clip.reasons.append(f"recognition: {row['class'].replace('_', ' ')}")


def _measured(run: Path, known: dict[str, Clip]) -> None:
    """What the quality report measured of every clip, and what it holds against it."""
    for row in read_table(run / "clips.csv"):
        if clip := known.get(row["id"]):
            clip.values |= _values(row)
            clip.reasons += _reasons(row)


def _listed(path: Path, name: str, known: dict[str, Clip]) -> None:
    """Put the clips of suspects.tsv or samples.tsv onto their list, with their reasons and order."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        # No cell holds a tab, and none is quoted: a quote is part of its text.
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    for rank, row in enumerate(rows, start=1):
        clip = known.get(row["id"])
        if clip is None:
            raise BadInput(f"{path}:{rank + 1}: no run holds the clip {row['id']}; make the quality report again")
        if name not in clip.lists:
            clip.lists.append(name)
        if name == "suspects":
            clip.rank = clip.rank or rank
            clip.reasons += [reason for reason in _reasons(row) if reason not in clip.reasons]
        clip.values |= _values(row)


def _reasons(row: Mapping[str, str]) -> list[str]:
    cell = row.get("reasons") or row.get("reason") or ""
    return [reason.strip() for reason in cell.split(";") if reason.strip()]


def _values(row: Mapping[str, str]) -> dict[str, float | str]:
    """Numbers as numbers, everything else as text; empty cells are left out."""
    return {name: _number(cell) for name, cell in row.items() if name and name not in _NOT_VALUES and cell}


def _number(cell: str) -> float | str:
    try:
        value = float(cell)
    except ValueError:
        return cell
    return value if math.isfinite(value) else cell


def columns(clips: Iterable[Clip]) -> list[tuple[str, bool]]:
    """The columns that `values` need: (name, all its values are numbers), in the order they were met."""
    kinds: dict[str, bool] = {}
    for clip in clips:
        for name, value in clip.values.items():
            kinds[name] = kinds.get(name, True) and not isinstance(value, str)
    return list(kinds.items())


def inside(run: Path, name: str) -> Path:
    """A file that a run's table names.

    Raises:
        BadInput: it lies outside the run, or isn't there.
    """
    path = (run / name).resolve()
    if not path.is_relative_to(run.resolve()):
        raise BadInput(f"{run}: names a file outside its folder: {name}")
    if not path.is_file():
        raise BadInput(f"{run}: {name} is not there; `make verify` names damaged runs")
    return path
