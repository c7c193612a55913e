"""Cut long recordings into utterances, at silences, by voice activity or by speaker turns.

    python scripts/segment.py --config configs/demo.yaml
    python scripts/segment.py --config configs/demo.yaml --set segment.method=vad
    make segment CONFIG=configs/demo.yaml SET='segment.min_silence_s=0.3'

Reads the run of preprocess. A recording that has a transcript is one utterance already and goes
through as it is. Every row of metadata.csv says where its clip stands in the original recording:
`recording`, `start_s`, `end_s`. Speech too short to keep is listed in dropped.csv.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

import preprocess
from voxmake.errors import Rejected
from voxmake.run.config import Section
from voxmake.run.digest import folder_digest
from voxmake.run.entry import parser, run_stage
from voxmake.run.stage import Stage
from voxmake.run.work import Item, Limits

if TYPE_CHECKING:
    from voxmake.run.run import Run
    from voxmake.run.worker import Output


class Segment(Section):
    """Long recordings into utterances. Recordings with a transcript are never cut."""

    method: Literal["none", "silence", "vad", "pyannote"] = Field(
        "none", description="none: recordings are utterances already; vad: Silero's detector; pyannote: speaker turns"
    )
    model: str | None = Field(None, description="folder of pyannote's pipeline; relative to the project's folder")
    threshold_db: float = Field(-40.0, le=0, description="dBFS; windows of this RMS level or less are silent")
    min_silence_s: float = Field(0.5, ge=0.01, le=10, description="a pause this long ends an utterance")
    pad_s: float = Field(0.1, ge=0, le=2, description="silence kept before and after an utterance, where there is any")
    min_duration_s: float = Field(1.0, gt=0, description="speech shorter than this joins a neighbour or is dropped")
    max_duration_s: float = Field(15.0, gt=0, description="longer speech is cut at its longest pause, again and again")
    merge_gap_s: float = Field(1.0, ge=0, description="short speech joins a neighbour across a gap of at most this")
    vad_threshold: float = Field(0.5, gt=0, lt=1, description="speech probability that starts an utterance")

    @model_validator(mode="after")
    def _bounds(self) -> Segment:
        if (self.method == "pyannote") != (self.model is not None):
            raise ValueError("model: is for method: pyannote, and that needs it")
        if self.max_duration_s < 4 * self.min_duration_s:
            raise ValueError("max_duration_s must be at least 4 times min_duration_s")
        return self


STAGE = Stage(
    name="segment",
    version=1,
    summary="cut long recordings into utterances",
    sections={"segment": Segment},
    after=("preprocess",),
    # Where the model lies is no part of the result; what is in it is.
    result_keys=lambda config: {"segment": config.segment.model_dump(mode="json", exclude={"model"})},
    outside=lambda config: folder_digest(config.segment.model),
    served_by=lambda config: "preprocess" if config.segment.method == "none" else None,
)

COLUMNS = (*preprocess.COLUMNS, "recording", "start_s", "end_s")
DROPPED_COLUMNS = ("recording", "start_s", "end_s", "reason")


class Cutter:
    """Worker: one recording in, its utterances out."""

    def __init__(self, spec: dict):
        from voxmake.audio import segmenting

        self.cutter = segmenting.Cutter(Segment.model_validate(spec))

    def __call__(self, payload: dict, output: Output) -> dict:
        """payload: `path` of the recording, its `row`. Returns `rows` and `dropped` spans."""
        row = payload["row"]
        path = Path(payload["path"])
        if row["transcription"]:
            output.write(row["file_name"], path.read_bytes())
            whole = row | self.cutter.place(row, 0.0, float(row["duration_s"]))
            return {"rows": [whole], "dropped": []}
        segments, short = self.cutter.find(path)
        if not segments:
            raise Rejected("no_speech", f"{len(short)} spans of speech, all too short")
        rows = []
        for utterance in self.cutter.utterances(path, segments):  # one in memory at a time
            begins = f"{round(utterance.start_s * 1000):08}"  # a name that stays when another cut moves
            file_name = f"audio/{path.stem}_{begins}{path.suffix}"
            output.write(file_name, utterance.data)
            facts = {"id": f"{row['id']}_{begins}", "file_name": file_name} | utterance.measured
            rows.append(row | facts | self.cutter.place(row, utterance.start_s, utterance.end_s))
        dropped = [self.cutter.place(row, *span) | {"reason": "too_short"} for span in short]
        return {"rows": rows, "dropped": dropped}


def work(run: Run) -> None:
    spec = run.config.segment
    recordings = run.inputs["preprocess"]
    items = [
        Item(
            id=row["id"],
            payload={"path": str(recordings.path / row["file_name"]), "row": row},
            cost=float(row["duration_s"]),
            source=row["source"],
        )
        for row in recordings.rows()
    ]
    # A model's runtime reserves more address space than any limit on it allows, and its time grows with the recording.
    limits = preprocess.limits(run.config.audio) if spec.method == "silence" else Limits()
    done = run.map(items, Cutter, {"spec": spec.model_dump()}, limits, "recordings")
    rows = sorted((row for found in done.values() for row in found["rows"]), key=lambda row: row["id"])
    dropped = [row for found in done.values() for row in found["dropped"]]
    run.write_table("metadata.csv", COLUMNS, rows)
    run.write_table("dropped.csv", DROPPED_COLUMNS, dropped)
    write_stats(run, rows, dropped, total_s=sum(item.cost for item in items if item.id in done))
    run.publish(rows_out=len(done))


def write_stats(run: Run, rows: list[dict], dropped: list[dict], total_s: float) -> None:
    seconds = [float(row["duration_s"]) for row in rows]
    run.stat("segments", len(rows), "clips", "utterances, those that came as such included")
    run.stat("segment_mean", round(sum(seconds) / max(len(rows), 1), 3), "s", "mean length of an utterance")
    run.stat("segment_max", max(seconds, default=0), "s", "length of the longest utterance")
    run.stat(
        "kept_ratio", round(sum(seconds) / max(total_s, 1e-9), 4), "1", "share of the recordings' time that is kept"
    )
    run.stat(
        "dropped", len(dropped), "spans", "speech too short to keep, with no neighbour to join; dropped.csv has it"
    )


def main(argv: list[str] | None = None) -> int:
    return run_stage(STAGE, work, parser(__doc__), argv)


if __name__ == "__main__":
    raise SystemExit(main())
