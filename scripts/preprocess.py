"""Bring every recording to one format: mono, one sample rate, one level.

    python scripts/preprocess.py --config configs/demo.yaml
    python scripts/preprocess.py --config configs/demo.yaml --set audio.target_db=-23
    make preprocess CONFIG=configs/demo.yaml SET='audio.sample_rate_hz=22050'

Reads the run of collect, writes audio/ and a new metadata.csv that says of each clip its duration,
its level before and after, what the peak guard did, clipping and bandwidth. Originals are never
touched. A file that can't be used goes to rejected.csv with its reason.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from voxmake.audio.spec import AudioSpec
from voxmake.run.entry import parser, run_stage
from voxmake.run.stage import Stage
from voxmake.run.work import Item, Limits

if TYPE_CHECKING:
    from voxmake.run.run import Run
    from voxmake.run.worker import Output

STAGE = Stage(
    name="preprocess",
    version=1,
    summary="bring every recording to one format, rate and level",
    sections={"audio": AudioSpec},
    after=("collect",),
    # With collect.preprocess the collect stage makes the same bytes in one pass.
    served_by=lambda config: "collect" if config.collect.preprocess else None,
)

# What collect says of a clip and every later stage keeps, then what this stage finds.
CARRIED = ("id", "source", "speaker", "language")
MEASURED = (
    "duration_s", "sample_rate_hz", "level_before_db", "level_after_db", "gain_db", "true_peak_db", "peak_guard",
    "clipping_ratio", "bandwidth_hz", "dc_offset", "trim_start_s", "trim_end_s",
    "source_format", "source_sample_rate_hz", "source_channels", "source_duration_s",
)  # fmt: skip
COLUMNS = ("file_name", "transcription", *CARRIED, *MEASURED)


class Standardise:
    """Worker: one recording in, one clip and its row out."""

    def __init__(self, spec: dict):
        from voxmake.audio.standardise import standardise

        self.spec = AudioSpec.model_validate(spec)
        self.standardise = standardise

    def __call__(self, payload: dict, output: Output) -> dict:
        """payload: `path` of the recording, `name` of the clip without its ending, `row` to carry on."""
        data, measured = self.standardise(Path(payload["path"]), self.spec)
        file_name = f"audio/{payload['name']}.{self.spec.file_format}"
        output.write(file_name, data)
        return payload["row"] | {"file_name": file_name} | measured


def limits(spec: AudioSpec) -> Limits:
    """What decoding one file may take."""
    return Limits(cpu_s=spec.max_cpu_s, memory_mb=spec.max_memory_mb)


def work(run: Run) -> None:
    spec = run.config.audio
    collected = run.inputs["collect"]
    items = [
        Item(
            id=row["id"],
            payload={
                "path": str(collected.path / row["file_name"]),
                "name": Path(row["file_name"]).stem,
                "row": {column: row[column] for column in ("transcription", *CARRIED)},
            },
            cost=(collected.path / row["file_name"]).stat().st_size,
            source=row["source"],
        )
        for row in collected.rows()
    ]
    rows = run.map(items, Standardise, {"spec": spec.model_dump()}, limits(spec), "clips")
    write_results(run, list(rows.values()))
    run.publish(rows_out=len(rows))


def write_results(run: Run, rows: list[dict]) -> None:
    """metadata.csv and the numbers of stats.json; collect writes the same when it preprocesses."""
    run.write_table("metadata.csv", COLUMNS, rows)
    seconds = [row["duration_s"] for row in rows]
    run.stat("hours", round(sum(seconds) / 3600, 6), "h", "audio in all")
    run.stat("duration_mean", round(sum(seconds) / max(len(seconds), 1), 3), "s", "mean length of a clip")
    run.stat("duration_min", min(seconds, default=0), "s", "length of the shortest clip")
    run.stat("duration_max", max(seconds, default=0), "s", "length of the longest clip")
    guarded = sum(row["peak_guard"] for row in rows)
    run.stat(
        "peak_guarded",
        guarded,
        "clips",
        "clips below the target level, because their peaks would have passed the limit",
    )
    clipped = sum(row["clipping_ratio"] > 0 for row in rows)
    run.stat("clipped", clipped, "clips", "clips whose recording has runs of samples at full scale")


def main(argv: list[str] | None = None) -> int:
    return run_stage(STAGE, work, parser(__doc__), argv)


if __name__ == "__main__":
    raise SystemExit(main())
