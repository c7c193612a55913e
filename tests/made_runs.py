"""Published runs of segment and diarize, made by hand: what prepare_dataset reads."""

import json
import random
import struct
from pathlib import Path

import diarize
import segment
from voxmake.run.run import csv_text
from voxmake.run.store import WorkDir

RATE_HZ = 16000
WORDS = "river stone light under seven houses green window carry slowly bridge morning quiet garden letter"

NEAR = {"distance": "0.2", "nearest": "ben", "nearest_distance": "0.5", "reviewed": ""}


def wav(samples: int, seed: int | str) -> bytes:
    body = random.Random(seed).randbytes(2 * samples)
    header = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", 36 + len(body), b"WAVEfmt ", 16, 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16,
                         b"data", len(body))  # fmt: skip
    return header + body


def sentence(number: int) -> str:
    """A sentence of its own for each number, about 40 characters."""
    return " ".join(random.Random(number).choices(WORDS.split(), k=7)).capitalize() + "."


def clip(number: int, **facts) -> dict:
    """One clip: what both runs say of it. Speakers take turns and speak 12 to 16 characters a second."""
    text = facts.pop("text", sentence(number))
    return {
        "id": f"clip{number:04}",
        "transcription": text,
        "speaker": ("ann", "ben")[number % 2],
        "language": "en",
        "duration_s": round(max(0.6, len(text) / (12 + number // 2 % 5)), 2),
        "state": "definite",
    } | facts


def runs(folder: Path, clips: list[dict], suffix: str = ".wav") -> list[str]:
    """Publish both runs below folder; returns the flags that make prepare_dataset read them."""
    measured = {
        "sample_rate_hz": RATE_HZ, "level_after_db": -20.0, "clipping_ratio": 0.0, "bandwidth_hz": 7500, "source": "m.csv:2",
    }  # fmt: skip
    audio, rows, speakers = {}, [], []
    for one in clips:
        name = one.get("file_name", f"audio/{one['id']}{suffix}")
        data = one.get("data") or wav(round(one["duration_s"] * RATE_HZ), one["id"])
        audio[name] = data
        rows.append(measured | one | {"file_name": name})
        if one["state"]:
            speakers.append(NEAR | one | {"file_name": name})
    publish(folder / "segment", {"metadata.csv": table(segment.COLUMNS, rows)} | audio)
    publish(folder / "diarize", {"speakers.csv": table(diarize.COLUMNS, speakers)})
    return ["--input", f"segment={folder / 'segment'}", "--input", f"diarize={folder / 'diarize'}"]


def table(columns, rows) -> str:
    return csv_text(columns, ([row.get(column, "") for column in columns] for row in rows))


def publish(folder: Path, files: dict[str, str | bytes]) -> None:
    stage = {"segment": segment, "diarize": diarize}[folder.name].STAGE
    work = WorkDir(folder)
    for name, content in files.items():
        path = work.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (work.path / "run.json").write_text(json.dumps({"identity": {"stage": stage.name, "version": stage.version}}))
    work.publish(files, {}, "made by a test")
