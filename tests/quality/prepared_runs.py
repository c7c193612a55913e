"""A published run of prepare_dataset, made by hand, and quality_report run on it."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from voxmake.run.stage import hash12, load_stage
from voxmake.run.store import WorkDir

COLUMNS = (
    "id", "file_name", "split", "text", "transcription", "speaker", "speaker_id", "language", "duration_s", "level_db",
    "clipping_ratio", "bandwidth_hz", "source", "speaker_state", "speaker_distance",
)  # fmt: skip


def publish(data: Path, clips: list[dict]) -> Path:
    """A run with `clips`: rows of metadata.csv, with the bytes of the file under `wav`."""
    identity = {"stage": "prepare_dataset", "version": 1, "keys": {}, "inputs": {}, "outside": {"n": str(len(clips))}}
    work = WorkDir(data / "runs" / "prepare_dataset" / hash12(identity))
    rows = []
    for clip in clips:
        row = {"split": "train", "speaker": "A", "language": "en", "clipping_ratio": "0.0", "speaker_state": ""} | clip
        row["file_name"] = f"audio/{row['split']}/{row['id']}.wav"
        path = work.path / row["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row.pop("wav"))
        rows.append(row)
    with (work.path / "metadata.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    (work.path / "run.json").write_text(json.dumps({"identity": identity}))
    (work.path / "run.log").touch()
    work.publish(["metadata.csv", *(row["file_name"] for row in rows)], {}, "voxmake prepare_dataset by hand")
    return work.final


class Report:
    """A finished run of quality_report."""

    def __init__(self, code: int, errors: str, path: Path | None):
        self.code, self.errors, self.path = code, errors, path

    def table(self, name: str) -> list[dict]:
        with (self.path / name).open(newline="") as stream:
            return list(
                csv.DictReader(
                    stream,
                    delimiter="\t" if name.endswith(".tsv") else ",",
                    quoting=csv.QUOTE_NONE if name.endswith(".tsv") else csv.QUOTE_MINIMAL,
                )
            )

    @property
    def stats(self) -> dict:
        return {name: facts["value"] for name, facts in json.loads((self.path / "stats.json").read_text()).items()}

    @property
    def gate(self) -> dict:
        return json.loads((self.path / "run.json").read_text())["gate"]

    @property
    def keys(self) -> dict:
        return json.loads((self.path / "run.json").read_text())["identity"]["keys"]

    def reasons(self) -> dict[str, set[str]]:
        return {row["id"]: set(filter(None, row["reasons"].split(";"))) for row in self.table("clips.csv")}


@pytest.fixture
def report(tmp_path, monkeypatch):
    """report(clips, *flags): publish them, run the stage; without DNSMOS, which takes seconds, unless flags say so."""
    monkeypatch.setenv("VOXMAKE_DATA", str(tmp_path / "data"))
    load_stage("prepare_dataset")
    made = 0

    def report(clips: list[dict], *flags: str, workers: int = 2) -> Report:
        nonlocal made
        made += 1
        config = tmp_path / "x.yaml"
        config.write_text(
            f"extends: {ROOT / 'configs' / 'base.yaml'}\nproject: test\n"
            f"quality: {{dnsmos: false}}\nexecution: {{workers: {workers}, progress: none}}\n"
        )
        run = publish(tmp_path / f"data{made}", clips)
        output = tmp_path / f"report{made}"
        done = subprocess.run(
            [
                sys.executable,
                ROOT / "scripts" / "quality_report.py",
                "--config",
                config,
                "--input",
                run,
                "--output",
                output,
                *flags,
            ],
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stderr
        return Report(done.returncode, done.stderr, output if output.exists() else None)

    return report
