"""Make a dataset to train on: clips, texts and speakers, filtered, split, in the formats that trainers read.

    python scripts/prepare_dataset.py --config configs/demo.yaml
    python scripts/prepare_dataset.py --config configs/demo.yaml --set 'dataset.exports=[piper]'
    make prepare_dataset CONFIG=configs/demo.yaml SET='dataset.max_duration_s=15'

Reads the clips of segment (or preprocess) and the speakers of diarize. Writes audio/<split>/, metadata.csv,
one folder for each format (docs/dataset.md), sizes.json, which says whether there is enough to train on, and
stats/characters.csv. Every clip left out is in rejected.csv with its reason; corrections.csv has the last word.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxmake import review
from voxmake.dataset.spec import Dataset
from voxmake.errors import BadInput, ConfigError
from voxmake.run.entry import parser, run_stage
from voxmake.run.stage import Stage
from voxmake.run.work import Item, Limits

if TYPE_CHECKING:
    from voxmake.dataset.choosing import Clip
    from voxmake.run.run import Run
    from voxmake.run.worker import Output

STAGE = Stage(
    name="prepare_dataset",
    version=1,
    summary="filter, split and export what is trained on",
    sections={"dataset": Dataset, "review": review.Review},
    after=("segment", "diarize"),
    seeded=True,
    # Where the corrections lie is no part of the result; what is in them is.
    result_keys=lambda config: {"dataset": config.dataset.model_dump(mode="json")},
    outside=review.digest,
)

COLUMNS = (
    "id", "file_name", "split", "text", "transcription", "speaker", "speaker_id", "language", "duration_s", "level_db",
    "clipping_ratio", "bandwidth_hz", "source", "speaker_state", "speaker_distance",
)  # fmt: skip


class Place:
    """Worker: one clip into the dataset, and a link to it for each format."""

    def __init__(self, exports: list[str]):
        from voxmake.dataset.exports import PLACES

        self.places = [PLACES[export] for export in exports if export in PLACES]

    def __call__(self, payload: dict, output: Output) -> dict:
        """payload: `path` of the clip, `row` of the dataset with `name` and `split`."""
        from voxmake.dataset.exports import AUDIO, link

        row = payload["row"]
        original = AUDIO.format(**row)
        output.write(original, as_wav(Path(payload["path"])))
        for place in self.places:
            name = place.format(**row)
            link(output.path(original), output.path(name))
            output.add(name, *output.files[original])
        return row | {"file_name": original}


def as_wav(path: Path) -> bytes:
    """The clip's bytes; of a FLAC file the same samples as WAV, which every trainer reads."""
    if path.suffix == ".wav":
        return path.read_bytes()
    import io

    import soundfile

    with soundfile.SoundFile(path) as clip:
        samples, rate_hz, subtype = clip.read(dtype="int32"), clip.samplerate, clip.subtype
    data = io.BytesIO()
    soundfile.write(data, samples, rate_hz, format="WAV", subtype=subtype)
    return data.getvalue()


def work(run: Run) -> None:
    from voxmake.dataset.choosing import choose
    from voxmake.dataset.sizes import size_report
    from voxmake.run.run import read_table

    spec = run.config.dataset
    clips_run = run.inputs["segment"]
    everything = sorted(clips_run.rows(), key=lambda row: row["id"])
    rows = everything[: run.limit]
    sample_rate_hz = one_rate(rows)
    speakers = {row["id"]: row for row in read_table(run.inputs["diarize"].path / "speakers.csv")}
    corrections = review.read_corrections(run.config)
    check_names(run, everything, speakers, corrections)
    clips, refused = choose(rows, speakers, corrections, spec)
    for each in refused:
        run.reject(each.row["id"], each.row["source"], each.reason, each.detail)
    items = [
        Item(
            id=row["id"],
            payload={"path": str(clips_run.path / clip.row["file_name"]), "row": row},
            cost=clip.duration_s,
            source=row["source"],
        )
        for clip, row in zip(clips, dataset_rows(clips, run.config.seed, spec), strict=True)
    ]
    done = list(run.map(items, Place, {"exports": spec.exports}, Limits(), "clips").values())
    run.write_table("metadata.csv", COLUMNS, done)
    if done:
        write_exports(run, done, sample_rate_hz)
        write_sizes(run, size_report(done, spec))
    write_stats(run, done)
    run.publish(rows_out=len(done))


def one_rate(rows: list[dict[str, str]]) -> int:
    """The sample rate of all clips, in Hz."""
    rates = Counter(row["sample_rate_hz"] for row in rows)
    if len(rates) != 1:
        raise BadInput(
            f"clips have {len(rates)} sample rates ({', '.join(sorted(rates))} Hz), a dataset has one: run preprocess"
        )
    return int(next(iter(rates)))


def check_names(run: Run, rows: list[dict], speakers: dict[str, dict], corrections: review.Corrections) -> None:
    """What the config and the corrections name must be there; a typing error would go unnoticed."""
    there = {row["speaker"] for row in speakers.values()} - {""}
    if missing := set(run.config.dataset.speakers or ()) - there:
        raise ConfigError(
            f"dataset.speakers: diarize found no {', '.join(sorted(missing))}; there are: {', '.join(sorted(there))}"
        )
    if unknown := sorted(corrections.texts.keys() - {row["id"] for row in rows}):
        run.log.warning(
            "%s: %d texts are of clips that are not in this set: %s",
            corrections.path,
            len(unknown),
            ", ".join(unknown[:5]),
        )


def dataset_rows(clips: list[Clip], seed: int, spec: Dataset) -> list[dict[str, Any]]:
    """Rows of metadata.csv, and `name`, the file name without its ending; file_name comes with the file."""
    from voxmake.dataset.splits import assign_splits, text_key

    keys = [text_key(clip.text) for clip in clips]
    splits = assign_splits(zip((clip.speaker for clip in clips), keys, strict=True), seed, spec)
    numbers = {name: number for number, name in enumerate(sorted({clip.speaker for clip in clips}))}
    return [
        {
            "id": clip.row["id"],
            "name": Path(clip.row["file_name"]).stem,
            "split": splits[key],
            "text": clip.text,
            "transcription": clip.row["transcription"],
            "speaker": clip.speaker,
            "speaker_id": numbers[clip.speaker],
            "language": clip.language,
            "duration_s": clip.duration_s,
            "level_db": clip.row["level_after_db"],
            "clipping_ratio": clip.row["clipping_ratio"],
            "bandwidth_hz": clip.row["bandwidth_hz"],
            "source": clip.row["source"],
            "speaker_state": clip.state,
            "speaker_distance": clip.distance,
        }
        for clip, key in zip(clips, keys, strict=True)
    ]


def write_exports(run: Run, rows: list[dict], sample_rate_hz: int) -> None:
    from voxmake.dataset.exports import tables
    from voxmake.dataset.hub import write_hub_dataset

    for export in run.config.dataset.exports:
        if export == "hf":
            for name in write_hub_dataset(run.path, rows, sample_rate_hz):
                run.add_file(name)
            continue
        for name, text in tables(export, rows).items():
            run.write_text(name, text)


def write_sizes(run: Run, report: dict) -> None:
    """sizes.json, and its checks as the gate of this run."""
    run.write_json("sizes.json", report)
    for check in report["checks"]:
        run.check(check["name"], check["value"], ">=", check["limit"])
        if not check["passed"]:
            run.log.warning("%(name)s is %(value)d, needs %(limit)d: %(remedy)s", check)
    for split, facts in report["splits"].items():
        run.stat(f"{split}_clips", facts["clips"], "clips", f"clips of the {split} split")
        run.stat(f"{split}_hours", round(facts["seconds"] / 3600, 6), "h", f"audio of the {split} split")
    batches = report["splits"]["train"]["batches_per_epoch"]
    run.stat("batches_per_epoch", batches, "batches", "training steps that one pass over the train split takes")
    run.stat("shortest_clip", report["shortest"]["duration_s"], "s", f"the shortest clip, {report['shortest']['id']}")


def write_stats(run: Run, rows: list[dict]) -> None:
    from voxmake.text.normalise import has_digits

    clips_with: Counter[str] = Counter()
    uses: Counter[str] = Counter()
    first: dict[str, str] = {}
    for row in rows:
        uses.update(row["text"])
        clips_with.update(set(row["text"]))
        for character in row["text"]:
            first.setdefault(character, row["id"])
    run.write_table(
        "stats/characters.csv",
        ("character", "codepoint", "name", "uses", "clips", "first_id"),
        [(c, f"U+{ord(c):04X}", unicodedata.name(c, ""), uses[c], clips_with[c], first[c]) for c in sorted(uses)],
    )
    run.stat("characters", len(uses), "characters", "different characters in the texts; stats/characters.csv has them")
    run.stat("speakers", len({row["speaker"] for row in rows}), "speakers", "speakers of the dataset")
    run.stat("texts", len({row["text"] for row in rows}), "texts", "different texts")
    unread = sorted({row["language"] or "none" for row in rows if has_digits(row["text"])})
    count = sum(has_digits(row["text"]) for row in rows)
    run.stat("digits_left", count, "clips", "texts with digits that nobody spelled out: their language is not known")
    if count:
        run.log.warning(
            "%d texts keep their digits (language %s): set dataset.language, or correct the texts",
            count,
            ", ".join(unread),
        )


def main(argv: list[str] | None = None) -> int:
    return run_stage(STAGE, work, parser(__doc__), argv)


if __name__ == "__main__":
    raise SystemExit(main())
