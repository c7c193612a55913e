"""Is there enough to train on? Arithmetic that a trainer would do too late, after hours or in a stack trace."""

from __future__ import annotations

from typing import Any

from voxmake.dataset.spec import Dataset
from voxmake.dataset.splits import SPLITS, TEST, TRAIN, VALIDATION


def size_report(rows: list[dict[str, Any]], spec: Dataset) -> dict[str, Any]:
    """sizes.json: the splits, the speakers, and what the set must have.

    Args:
        rows: of the dataset's metadata.csv.

    Returns:
        `splits`, `speakers`, `shortest`, and `checks`, of which each has name, value, limit (at least that),
        passed, and remedy.
    """
    speakers = sorted({row["speaker"] for row in rows})
    counted = {name: {split: 0 for split in SPLITS} | {"seconds": 0.0} for name in speakers}
    for row in rows:
        counted[row["speaker"]][row["split"]] += 1
        counted[row["speaker"]]["seconds"] += row["duration_s"]
    splits = {
        split: {
            "clips": sum(counts[split] for counts in counted.values()),
            "seconds": round(sum(row["duration_s"] for row in rows if row["split"] == split), 3),
        }
        for split in SPLITS
    }
    splits[TRAIN]["batches_per_epoch"] = -(-splits[TRAIN]["clips"] // spec.train_batch_size)
    shortest = min(rows, key=lambda row: (row["duration_s"], row["id"]))
    checks = [_check("train_clips", splits[TRAIN]["clips"], spec.train_batch_size,
                     "record more, reject less, or lower dataset.train_batch_size")]  # fmt: skip
    for split, ratio in ((VALIDATION, spec.validation_ratio), (TEST, spec.test_ratio)):
        if ratio > 0:
            remedy = f"record other sentences, or change dataset.{split}_ratio"
            checks.append(_check(f"{split}_clips", splits[split]["clips"], 1, remedy))
    least = min(counted, key=lambda name: counted[name][TRAIN])
    remedy = f"{least} has the fewest: record other sentences of {least}, or leave it out of dataset.speakers"
    checks.append(_check("train_clips_of_a_speaker", counted[least][TRAIN], 1, remedy))
    if spec.validation_ratio > 0:
        least = min(counted, key=lambda name: counted[name][VALIDATION])
        remedy = (
            f"{least} has the fewest: record other sentences of {least}, or lower dataset.min_validation_per_speaker"
        )
        value, limit = counted[least][VALIDATION], spec.min_validation_per_speaker
        checks.append(_check("validation_clips_of_a_speaker", value, limit, remedy))
    return {
        "splits": splits,
        "speakers": {
            name: counts | {"speaker_id": number, "seconds": round(counts["seconds"], 3)}
            for number, (name, counts) in enumerate(counted.items())
        },
        "shortest": {"id": shortest["id"], "source": shortest["source"], "duration_s": shortest["duration_s"]},
        "segment_s": spec.segment_s,
        "train_batch_size": spec.train_batch_size,
        "checks": checks,
    }


def _check(name: str, value: int, limit: int, remedy: str) -> dict[str, Any]:
    return {"name": name, "value": value, "limit": limit, "passed": value >= limit, "remedy": remedy}
