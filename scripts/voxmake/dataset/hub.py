"""The dataset as `datasets.load_from_disk` opens it, with the audio inside."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from voxmake.dataset.exports import AUDIO
from voxmake.dataset.splits import SPLITS

FOLDER = "hf"
COLUMNS = {
    "text": "string", "speaker_id": "int64", "speaker": "string", "id": "string", "language": "string",
    "duration_s": "float64",
}  # fmt: skip


def write_hub_dataset(root: Path, rows: list[dict[str, Any]], sample_rate_hz: int) -> list[str]:
    """Write a DatasetDict to root/hf; the same rows and audio give the same bytes.

    Args:
        root: the run's folder; the audio lies below it already.
        rows: of the dataset's metadata.csv, with `name`, the file name without its ending.

    Returns:
        names of the files written, relative to root.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import datasets
    import pyarrow

    features = datasets.Features(
        {"audio": datasets.Audio(sampling_rate=sample_rate_hz)}
        | {name: datasets.Value(kind) for name, kind in COLUMNS.items()}
    )
    parts = {}
    for split in SPLITS:
        own = [row for row in rows if row["split"] == split]
        if not own:
            continue
        # Only the path for now: save_to_disk puts the bytes in, a batch at a time, and keeps the bare file name.
        audio = [{"bytes": None, "path": str(root / AUDIO.format(**row))} for row in own]
        columns = {"audio": audio} | {name: [row[name] for row in own] for name in COLUMNS}
        table = pyarrow.table(columns, schema=features.arrow_schema)
        # By default the fingerprint hashes the table, and with it this machine's paths.
        told = hashlib.sha256(repr([[row[name] for name in COLUMNS] for row in own]).encode()).hexdigest()
        parts[split] = datasets.Dataset(
            table, datasets.DatasetInfo(features=features), datasets.NamedSplit(split), fingerprint=told[:16]
        )
    datasets.disable_progress_bars()  # they would run into our own display
    datasets.DatasetDict(parts).save_to_disk(root / FOLDER)
    return sorted(path.relative_to(root).as_posix() for path in (root / FOLDER).rglob("*") if path.is_file())
