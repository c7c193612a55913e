"""Published runs of prepare_dataset and whisper_validate made by hand: what the trainers read."""

import json

import numpy as np
import soundfile
from conftest import ROOT, voice

import prepare_dataset
import whisper_validate
from voxmake.run.run import csv_text
from voxmake.run.store import WorkDir

TEXTS = ("the river runs", "seven green houses", "a quiet garden", "carry the stones", "light the lamp", "open windows")


def publish(folder, stage, files):
    work = WorkDir(folder)
    for name, content in files.items():
        path = work.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (work.path / "run.json").write_text(json.dumps({"identity": {"stage": stage.name, "version": stage.version}}))
    work.publish(files, {}, "made by a test")


def dataset(folder, train=10, validation=2, rate_hz=16000, failed=(), **facts):
    """Both runs below folder, and a config `x.yaml` beside them; returns the flags that read them.

    Args:
        failed: ids that whisper_validate did not pass.
        facts: column -> values of the first rows, to spoil them.
    """
    rows, files = [], {}
    for number in range(train + validation):
        split = "train" if number < train else "validation"
        row = {
            "id": f"clip{number:03}", "file_name": f"audio/{split}/clip{number:03}.wav", "split": split,
            "text": TEXTS[number % len(TEXTS)], "speaker": "ann", "speaker_id": 0, "language": "en",
            "duration_s": 0.9 + 0.02 * number, "source": f"metadata.csv:{number + 2}",
        }  # fmt: skip
        row |= {column: values[number] for column, values in facts.items() if number < len(values)}
        path = folder / "clip.wav"
        samples = voice(row["duration_s"], rate_hz, number)
        soundfile.write(path, samples.astype(np.float32), rate_hz, subtype="PCM_16")
        files[row["file_name"]] = path.read_bytes()
        rows.append(row)
    columns = prepare_dataset.COLUMNS
    files["metadata.csv"] = csv_text(columns, ([row.get(column, "") for column in columns] for row in rows))
    publish(folder / "prepare_dataset", prepare_dataset.STAGE, files)
    checked = [
        {
            "id": row["id"],
            "class": "cut_end" if row["id"] in failed else "ok",
            "passed": "no" if row["id"] in failed else "yes",
        }
        for row in rows
    ]
    table = csv_text(("id", "class", "passed"), ([row[c] for c in ("id", "class", "passed")] for row in checked))
    publish(folder / "whisper_validate", whisper_validate.STAGE, {"validation.csv": table})
    (folder / "x.yaml").write_text(
        f"extends: {ROOT / 'configs' / 'base.yaml'}\nproject: test\nstages: [train_mms]\n"
        "train_mms: {mode: mini, size: tiny, batch_size: 3, gradient_accumulation_steps: 1, segment_samples: 4096,"
        " learning_rate: 2e-3, warmup_steps: 2, logging_steps: 1, save_steps: 2, eval_steps: 4, max_steps: 8,"
        " mini_epochs: 4, discriminator_width: 0.05, min_free_disk_gb: 0, sentences: [a green garden, the seven stones],"
        " gate_min_level_db: -120, gate_duration_ratio: 1000}\n"
        "execution: {workers: 2, progress: none}\n"
    )
    return [
        "--config", str(folder / "x.yaml"), "--input", f"prepare_dataset={folder / 'prepare_dataset'}",
        "--input", f"whisper_validate={folder / 'whisper_validate'}",
    ]  # fmt: skip
