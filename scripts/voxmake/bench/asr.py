"""Speech recognition against plain use of its engines, one file after the other; the runner alone; error rates.

Whisper runs with the tiny random checkpoints of the tests: what is measured is what goes on around the model.
"""

from __future__ import annotations

import json
import logging
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from voxmake.bench.measuring import fresh, row, seconds
from voxmake.run.stage import PROJECT_ROOT

_CLIPS = 12
_OVERHEAD_ROWS = 20_000


def recognition(scratch: Path) -> list[dict]:
    """Rows an hour of whisper_validate with 1 and 2 workers, models loaded anew, against a loop over the files."""
    sys.path.append(str(PROJECT_ROOT / "tests/asr"))
    import tiny_whisper

    folder = fresh(scratch / "models")
    models = {
        "pocketsphinx": None,
        "whisper": tiny_whisper.openai(folder),
        "transformers": tiny_whisper.transformers(folder),
    }
    try:
        models["faster-whisper"] = tiny_whisper.faster(fresh(scratch / "ct2"))
    except ImportError:
        print("bench: faster-whisper is not installed, so it is not measured")
    paths = sorted((PROJECT_ROOT / "data/demo/recordings/slt").glob("*.flac"))[:_CLIPS]
    dataset(scratch / "dataset", paths)
    rows = []
    for engine, model in models.items():
        command = [sys.executable, "-m", "voxmake.bench.asr", "plain", engine, str(model), *map(str, paths)]
        usual = len(paths) / seconds(called, command, {})
        for workers in (1, 2):
            ours = len(paths) / seconds(validate, scratch, engine, model, workers)
            what = f"recognition, {engine}, {workers} worker{'s' if workers > 1 else ''}"
            rows.append(row(what, "clips/s", ours, "one file after the other", usual, ours / usual))
    return rows


def dataset(folder: Path, paths: list[Path]) -> None:
    """A published run of prepare_dataset with these clips."""
    import soundfile

    import prepare_dataset
    from voxmake.run.run import csv_text
    from voxmake.run.store import WorkDir

    work = WorkDir(folder)
    rows = [
        {
            "id": path.stem,
            "file_name": path.name,
            "text": path.stem,
            "language": "en",
            "duration_s": soundfile.info(path).duration,
        }
        for path in paths
    ]
    columns = prepare_dataset.COLUMNS
    files = {path.name: path.read_bytes() for path in paths}
    files["metadata.csv"] = csv_text(columns, ([one.get(name, "") for name in columns] for one in rows)).encode()
    for name, content in files.items():
        (work.path / name).write_bytes(content)
    stage = prepare_dataset.STAGE
    record = {"identity": {"stage": stage.name, "version": stage.version}, "gate": {"verdict": "PASS", "checks": []}}
    (work.path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    work.publish(files, {}, "made by the benchmark")


def validate(scratch: Path, engine: str, model: Path | None, workers: int) -> None:
    from voxmake.run.digest import file_sha256

    data = fresh(scratch / "work")
    keys = {
        "execution.workers": workers, "execution.progress": "none", "validation.beam_size": 1,
        "validation.gate_mean_similarity": 0, "validation.gate_low_ratio": 1,
    }  # fmt: skip
    if model is not None:
        keys["validation.model"] = model
    if engine == "whisper":
        keys["validation.model_sha256"] = file_sha256(model)
    flags = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
    command = [
        sys.executable,
        PROJECT_ROOT / "scripts/whisper_validate.py",
        "--config",
        PROJECT_ROOT / "configs/base.yaml",
    ]
    # The gate may fail: no text is right.
    called([*command, "--input", scratch / "dataset", *flags], {"VOXMAKE_DATA": str(data)}, allowed=(0, 1))


def called(command: list, environment: dict[str, str], allowed: tuple[int, ...] = (0,)) -> None:
    told = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, cwd=PROJECT_ROOT / "scripts", check=False
    )
    if told.returncode not in allowed:
        raise SystemExit(f"bench: {command[1]} ended with {told.returncode}: {told.stderr[-2000:]}")


def plain(engine: str, model: str, paths: list[str]) -> None:
    """What the engine's own documentation shows: load the model, then one file after the other, on all cores."""
    from voxmake.asr.batches import read_clip

    hear = {"pocketsphinx": _pocketsphinx, "whisper": _whisper, "transformers": _transformers}.get(engine, _faster)(
        model
    )
    for path in paths:
        hear(read_clip(Path(path)))


def _pocketsphinx(model: str) -> Any:
    from voxmake.asr.engines import Pocketsphinx

    recogniser = Pocketsphinx()
    return lambda clip: recogniser.recognise([clip], "en")


def _whisper(model: str) -> Any:
    import torch
    import whisper

    weights = torch.load(model, map_location="cpu", weights_only=True)
    network = whisper.model.Whisper(whisper.model.ModelDimensions(**weights["dims"]))
    network.load_state_dict(weights["model_state_dict"])
    options = {"language": "en", "temperature": 0.0, "fp16": False, "without_timestamps": True}
    return lambda clip: whisper.transcribe(network, clip, **options)


def _transformers(model: str) -> Any:
    from transformers import pipeline

    recogniser = pipeline("automatic-speech-recognition", model)
    return lambda clip: recogniser({"raw": clip, "sampling_rate": 16000}, generate_kwargs={"language": "en"})


def _faster(model: str) -> Any:
    from faster_whisper import WhisperModel

    recogniser = WhisperModel(model, device="cpu", compute_type="float32", local_files_only=True)
    options = {"language": "en", "beam_size": 1, "temperature": 0.0, "without_timestamps": True}
    return lambda clip: list(recogniser.transcribe(clip, **options)[0])


class Null:
    """A worker that does nothing: what is left is the runner."""

    def many(self, payloads: list[str], outputs: list) -> Iterator[dict]:
        for text in payloads:
            yield {"text": text, "similarity": 1.0}


def overhead(scratch: Path) -> list[dict]:
    """Rows a second through Run.map, journal included, and the parent's memory."""
    told = subprocess.check_output(
        [sys.executable, "-m", "voxmake.bench.asr", "null", fresh(scratch / "work") / "run"],
        cwd=PROJECT_ROOT / "scripts", text=True,
    )  # fmt: skip
    rate, peak_mb = map(float, told.split())
    what = f"runner alone, null engine, {_OVERHEAD_ROWS} rows"
    return [
        {"what": what, "unit": "rows/s", "voxmake": round(rate), "limit": 1000},
        {"what": "the same, peak memory of the runner", "unit": "MiB", "voxmake": round(peak_mb), "limit": 500},
    ]


def null(folder: Path) -> None:
    from voxmake.run.run import Run
    from voxmake.run.stage import load_config
    from voxmake.run.store import WorkDir
    from voxmake.run.work import Item, Limits

    config = load_config(PROJECT_ROOT / "configs/base.yaml", ["execution.progress=none"])
    run = Run(None, config, {}, logging.getLogger("bench"), work=WorkDir(folder))
    items = [
        Item(f"{number:06}", "a sentence of about forty characters here", cost=1.0) for number in range(_OVERHEAD_ROWS)
    ]
    # As for a model with a batch size of 8.
    taken_s = seconds(lambda: run.map(items, Null, {}, Limits(), "rows", at_once=32, shown="similarity"))
    lines = Path("/proc/self/status").read_text().splitlines()
    print(len(items) / taken_s, next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")))
    run.work.close()


def error_rates(rounds: int) -> list[dict]:
    """Word error rate of pairs of 110 characters; both must give the same numbers."""
    import jiwer

    from voxmake.asr.scoring import word_errors

    chosen = random.Random(1)
    words = ["".join(chosen.choices("abcdefghijklmnopqrstuvwxyz", k=chosen.randint(2, 9))) for _ in range(500)]
    pairs = []
    for _ in range(2000):
        text = chosen.choices(words, k=17)
        said = [word if chosen.random() > 0.2 else chosen.choice(words) for word in text]
        pairs.append((" ".join(text), " ".join(said)))
    found: dict[str, list[float]] = {}

    def ours() -> None:
        found["ours"] = [word_errors(text.split(), said.split()) for text, said in pairs]

    def usual() -> None:
        found["jiwer"] = [jiwer.wer(text, said) for text, said in pairs]

    taken = [(len(pairs) / seconds(ours), len(pairs) / seconds(usual)) for _ in range(rounds)]
    if any(abs(a - b) > 1e-9 for a, b in zip(found["ours"], found["jiwer"], strict=True)):
        raise SystemExit("bench: word error rates differ from jiwer's")
    rate, other = (statistics.median(column) for column in zip(*taken, strict=True))
    return [row("word error rates, 110 characters, equal", "pairs/s", rate, "jiwer", other, rate / other)]


if __name__ == "__main__":
    from voxmake.bench.asr import null, plain  # by its own name: workers import the class from there

    if sys.argv[1] == "plain":
        plain(sys.argv[2], sys.argv[3], sys.argv[4:])
    else:
        null(Path(sys.argv[2]))
