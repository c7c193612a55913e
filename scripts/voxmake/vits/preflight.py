"""What both trainers do before they train: read the dataset, check sizes, say how long it will take."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxmake.errors import BadInput
from voxmake.vits.spec import Gates

if TYPE_CHECKING:
    from voxmake.run.run import Run
    from voxmake.vits.batches import Clip

HOP = 256  # samples of a frame, of MMS and Piper alike
SENTENCES = 5
# Passes over the data that people train with. finetune-hf-vits' example config for an MMS base; Piper's TRAINING.md
# for from scratch and for going on from a checkpoint.
EPOCHS_FROM_SCRATCH, EPOCHS_MMS, EPOCHS_PIPER = 2000, 200, 1000


@dataclass(frozen=True)
class Data:
    """The dataset to train on.

    Attributes:
        path: of the run of prepare_dataset.
        rows: of the splits train and validation, sorted by id, without what whisper_validate did not pass.
        samples: length of each clip, by id.
        recogniser: arguments of `asr.engines.load`.
    """

    path: Path
    rows: list[dict[str, str]]
    samples: dict[str, int]
    rate_hz: int
    language: str
    speakers: int
    sentences: list[str]
    recogniser: list[Any]


def without_validation(spec: Gates) -> tuple[str, ...]:
    return () if spec.validated else ("whisper_validate",)


def recogniser_key(config: Any) -> str:
    """What hears the sentences; it enters the hash, because the error rates hang on it."""
    from voxmake.asr.spec import chosen_engine, model_digest

    spec = config.validation
    return f"{chosen_engine(spec)} {model_digest(spec)} beam {spec.beam_size} {spec.compute_type}"


def read_dataset(run: Run, spec: Gates) -> Data:
    """The clips that may be trained on; what whisper_validate did not pass is rejected.

    Raises:
        BadInput: clips of more than one rate.
    """
    import soundfile

    from voxmake.asr.spec import chosen_engine, model_path
    from voxmake.run.run import read_table
    from voxmake.text.normalise import language_code

    prepared = run.inputs["prepare_dataset"]
    rows = sorted((r for r in prepared.rows() if r["split"] in ("train", "validation")), key=lambda row: row["id"])
    if spec.validated:
        table = read_table(run.inputs["whisper_validate"].path / "validation.csv")
        failed = {row["id"]: row["class"] for row in table if row["passed"] == "no"}
        for row in rows:
            if row["id"] in failed:
                refuse(run, row, "not_validated", failed[row["id"]])
        rows = [row for row in rows if row["id"] not in failed]
    rows = rows[: run.limit]
    samples, rates = {}, set()
    for row in rows:
        info = soundfile.info(prepared.path / row["file_name"])
        samples[row["id"]] = info.frames
        rates.add(info.samplerate)
    if len(rates) > 1:
        raise BadInput(
            f"clips have {len(rates)} sample rates ({', '.join(map(str, sorted(rates)))} Hz): run preprocess"
        )
    languages = Counter(row["language"] for row in rows).most_common(1)
    validation = run.config.validation
    model = model_path(validation)
    recogniser = [chosen_engine(validation), model and str(model), validation.beam_size, validation.compute_type]
    return Data(
        prepared.path, rows, samples, rates.pop() if rates else 0, language_code(languages[0][0]) if languages else "",
        1 + max((int(row["speaker_id"]) for row in rows), default=0), spec.sentences or _sentences(rows, run.config.seed),
        recogniser,
    )  # fmt: skip


def _sentences(rows: list[dict[str, str]], seed: int) -> list[str]:
    """Some texts that are not trained on, by the seed."""
    texts = {row["text"] for row in rows if row["split"] == "validation"}
    return sorted(texts, key=lambda text: hashlib.sha256(f"{seed}\0sentence\0{text}".encode()).hexdigest())[:SENTENCES]


def refuse(run: Run, row: dict[str, str], reason: str, detail: str) -> None:
    """Reject a clip and say so, with its row and the remedy."""
    from voxmake.errors import REASONS

    run.reject(row["id"], row["source"], reason, detail)
    run.log.warning("%s (%s): %s: %s", row["id"], row["source"], detail, REASONS[reason])


def check_sizes(data: Data, train: list[Clip], validation: list[Clip], batch_size: int | None, key: str) -> None:
    """Enough clips for a batch, for validation, and one of each speaker.

    Raises:
        BadInput: there are not; says what to do.
    """
    if lost := sorted(set(range(data.speakers)) - {clip.speaker_id for clip in train}):
        names = sorted({row["speaker"] for row in data.rows if int(row["speaker_id"]) in lost})
        raise BadInput(
            f"no clip is left to train on of {', '.join(names) or lost}: record more, or leave them out of dataset.speakers"
        )
    if len(train) < (batch_size or 1):
        raise BadInput(
            f"{len(train)} clips to train on, a batch needs {batch_size or 1}: record more, reject less, or lower {key}"
        )
    if not validation:
        raise BadInput(
            "no clip is left for validation: raise dataset.validation_ratio or dataset.min_validation_per_speaker"
        )


def say_estimate(run: Run, train: list[Any], batch_size: int | None, from_scratch: bool, piper: bool = False) -> None:
    """How many steps data of this size usually takes."""
    epochs = EPOCHS_FROM_SCRATCH if from_scratch else EPOCHS_PIPER if piper else EPOCHS_MMS
    hours = sum(clip.duration_s for clip in train) / 3600
    batch = batch_size or 16
    steps = -(-len(train) // batch) * epochs
    run.log.info(
        "%d clips, %.2f h: people train about %d epochs on such data %s, %d batches of %d; a plateau may end it before",
        len(train), hours, epochs, "from scratch" if from_scratch else "from a base", steps, batch,
    )  # fmt: skip
    run.stat("steps_estimate", steps, "batches", f"{epochs} epochs of batches of {batch}: what such data usually takes")
    run.stat("hours", round(hours, 6), "h", "audio of the training split")
