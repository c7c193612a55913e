"""whisper_validate: the whole stage on made clips, and what it finds on a real voice with planted defects."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import made_runs
import pytest
import soundfile
import tiny_whisper
from conftest import ROOT
from test_survival import kill, script

import prepare_dataset
from voxmake.run.run import csv_text
from voxmake.run.store import WorkDir, check_run

sys.path.insert(0, str(Path(__file__).parent / "asr"))
DEMO = ROOT / "data/demo/recordings"


def publish(folder: Path, rows: list[dict], audio: dict[str, bytes]) -> list[str]:
    """A run of prepare_dataset made by hand; returns the flags that make whisper_validate read it."""
    told = {"split": "train", "speaker": "ann", "speaker_id": 0, "language": "en", "source": "m.csv:2"}
    table = [[(told | row).get(column, "") for column in prepare_dataset.COLUMNS] for row in rows]
    work = WorkDir(folder)
    files = {"metadata.csv": csv_text(prepare_dataset.COLUMNS, table).encode()} | audio
    for name, content in files.items():
        (work.path / name).parent.mkdir(parents=True, exist_ok=True)
        (work.path / name).write_bytes(content)
    stage = prepare_dataset.STAGE
    (work.path / "run.json").write_text(json.dumps({"identity": {"stage": stage.name, "version": stage.version}}))
    work.publish(files, {}, "made by a test")
    return ["--input", f"prepare_dataset={folder}"]
