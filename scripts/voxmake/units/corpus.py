"""The units of all clips on disk: written by encode_units, read by what works on units."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from voxmake.units.features import RATE_HZ, Grid
from voxmake.units.measure import runs

if TYPE_CHECKING:
    from voxmake.run.run import Run

TIMES, LINES, FILES = "corpus_timestamped.json", "all_units_for_bpe.txt", "processed_files.txt"


@dataclass(frozen=True)
class Corpus:
    """What one tokeniser made of all clips.

    Attributes:
        tokeniser: its sha256.
        hop_samples: of a unit, at 16 kHz.
        units: int16 of every frame, by the clip's id, sorted by id.
    """

    tokeniser: str
    hop_samples: int
    units: dict[str, np.ndarray]

    @property
    def hop_s(self) -> float:
        return self.hop_samples / RATE_HZ


def read_corpus(folder: Path) -> Corpus:
    """The corpus of a run of encode_units."""
    told = json.loads((folder / TIMES).read_text(encoding="utf-8"))
    files = (folder / FILES).read_text(encoding="utf-8").splitlines()
    with (folder / LINES).open(encoding="utf-8") as lines:
        units = {name: np.array(line.split(), np.int16) for name, line in zip(files, lines, strict=True)}
    clips = sorted(told["clips"].items())
    return Corpus(told["tokeniser"], told["hop_samples"], {name: units[clip["file_name"]] for name, clip in clips})


def write_corpus(
    run: Run, clips: Sequence[Mapping], units: Mapping[str, np.ndarray], grid: Grid, tokeniser: str
) -> None:
    """Units of each clip: runs with times, every frame's unit for BPE and vocoder, and the clips' files in that order."""
    head = {
        "tokeniser": tokeniser,
        "rate_hz": RATE_HZ,
        "hop_samples": grid.hop,
        "columns": ["unit", "start_s", "end_s"],
        "clips": None,
    }
    opening = json.dumps(head, indent=1).removesuffix("null\n}")
    with (run.path / TIMES).open("w", encoding="utf-8") as corpus:
        corpus.write(opening + "{\n")
        for number, clip in enumerate(clips):
            found, starts = runs(units[clip["id"]])
            times = [grid.time_s(int(frame)) for frame in starts]
            told = {
                "file_name": clip["file_name"],
                "frames": clip["frames"],
                "units": [[int(unit), times[i], times[i + 1]] for i, unit in enumerate(found)],
            }
            line = f"{json.dumps(clip['id'], ensure_ascii=False)}: {json.dumps(told, separators=(',', ':'))}"
            corpus.write(line + (",\n" if number < len(clips) - 1 else "\n"))
        corpus.write("}\n}\n")
    run.add_file(TIMES)
    with (run.path / LINES).open("w", encoding="utf-8") as lines:
        for clip in clips:
            lines.write(" ".join(map(str, units[clip["id"]].tolist())) + "\n")
    run.add_file(LINES)
    run.write_text(FILES, "".join(f"{clip['file_name']}\n" for clip in clips))
