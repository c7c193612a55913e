"""The dataset in the formats that trainers read, each a folder that can be copied away by itself.

Tables here; the audio beside them is hard-linked, so it is stored once (`link`). Every format has a table for each
split, `metadata.csv` being the one for training, so that a trainer that splits by itself can't train on what is
held out.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from voxmake.dataset.splits import SPLITS, TRAIN

# Where a clip lies in each format; the run's own audio/ is the original of them all.
AUDIO = "audio/{split}/{name}.wav"
PLACES = {
    "audiofolder": "audiofolder/{split}/{name}.wav",
    "ljspeech": "exports/ljspeech/wavs/{name}.wav",
    "piper": "exports/piper/wav/{name}.wav",
    "coqui": "exports/coqui/wavs/{name}.wav",
    "nemo": "exports/nemo/audio/{name}.wav",
    "kaldi": "exports/kaldi/wav/{name}.wav",
}

Row = dict[str, Any]  # of the dataset's metadata.csv, and `name`, the file name without its ending


def link(source: Path, target: Path) -> None:
    """Give a file a second name; a copy where the file system has no hard links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # no hard links there, or more than it allows of one file
        shutil.copyfile(source, target)


def tables(export: str, rows: list[Row]) -> dict[str, str]:
    """The text files of one format: name in the run's folder -> content.

    Args:
        rows: sorted by id.
    """
    return {
        name: content
        for split in SPLITS
        if (own := [row for row in rows if row["split"] == split])
        for name, content in _TABLES[export](split, own).items()
    }


def _audiofolder(split: str, rows: list[Row]) -> dict[str, str]:
    """https://huggingface.co/docs/datasets/audio_dataset#audiofolder.

    JSON lines, not CSV: `datasets` reads CSV with pandas, which makes numbers of ids like 007 and nothing of a text
    that reads NA, None or null.
    """
    columns = ("text", "speaker_id", "speaker", "id", "language", "duration_s")
    lines = [{"file_name": f"{row['name']}.wav"} | {column: row[column] for column in columns} for row in rows]
    return {f"audiofolder/{split}/metadata.jsonl": _json_lines(lines)}


def _ljspeech(split: str, rows: list[Row]) -> dict[str, str]:
    """`id|text as it came|normalised text`: no header, no quoting. https://keithito.com/LJ-Speech-Dataset"""
    lines = [f"{row['name']}|{_one_cell(row['transcription'])}|{row['text']}\n" for row in rows]
    return {f"exports/ljspeech/{_table(split)}": "".join(lines)}


def _piper(split: str, rows: list[Row]) -> dict[str, str]:
    """`file|speaker|text`: with one speaker Piper takes the last column and leaves the second alone.

    https://github.com/OHF-Voice/piper1-gpl/blob/main/docs/TRAINING.md. Piper numbers speakers as they first appear,
    so rows are in the order of speaker_id. It reads the table as CSV: a quote at the start of a text would swallow
    the rows below, and espeak speaks none, so quotes are left out.
    """
    ordered = sorted(rows, key=lambda row: (row["speaker_id"], row["id"]))
    lines = [f"{row['name']}.wav|{_one_cell(row['speaker'])}|{row['text']}\n" for row in ordered]
    return {f"exports/piper/{_table(split)}": "".join(lines).replace('"', "")}


def _coqui(split: str, rows: list[Row]) -> dict[str, str]:
    """`audio_file|text|speaker_name` with a header, quoted as CSV: the formatter `coqui` of coqui-ai-TTS."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="|", lineterminator="\n")
    writer.writerow(["audio_file", "text", "speaker_name"])
    writer.writerows([f"wavs/{row['name']}.wav", row["text"], row["speaker"]] for row in rows)
    return {f"exports/coqui/{_table(split)}": text.getvalue()}


def _nemo(split: str, rows: list[Row]) -> dict[str, str]:
    """JSON lines; NeMo's TTS data sets take a number for `speaker`.
    https://docs.nvidia.com/nemo-framework/user-guide/latest/nemotoolkit/tts/datasets.html"""
    lines = [
        {
            "audio_filepath": f"audio/{row['name']}.wav",
            "text": row["text"],
            "duration": row["duration_s"],
            "speaker": row["speaker_id"],
            "speaker_name": row["speaker"],
            "language": row["language"],
            "id": row["id"],
        }
        for row in rows
    ]
    return {f"exports/nemo/{split}_manifest.json": _json_lines(lines)}


def _kaldi(split: str, rows: list[Row]) -> dict[str, str]:
    """wav.scp, text, utt2spk, spk2utt; paths start at exports/kaldi. https://kaldi-asr.org/doc/data_prep.html

    validate_data_dir.sh wants one order by utterance and by speaker in the C locale. So utterances begin with the
    speaker, and speakers with a number: `a` and `a-b` sort otherwise with and without what follows.
    """
    named = sorted((f"{_kaldi_speaker(row)}-{row['name']}", row) for row in rows)
    of: dict[str, list[str]] = {}
    for utterance, row in named:
        of.setdefault(_kaldi_speaker(row), []).append(utterance)
    files = {
        "wav.scp": [f"{utterance} wav/{row['name']}.wav" for utterance, row in named],
        "text": [f"{utterance} {row['text']}" for utterance, row in named],
        "utt2spk": [f"{utterance} {_kaldi_speaker(row)}" for utterance, row in named],
        "spk2utt": [f"{speaker} {' '.join(utterances)}" for speaker, utterances in of.items()],
    }
    return {f"exports/kaldi/{split}/{name}": "\n".join(lines) + "\n" for name, lines in files.items()}


_TABLES: dict[str, Callable[[str, list[Row]], dict[str, str]]] = {
    "audiofolder": _audiofolder,
    "ljspeech": _ljspeech,
    "piper": _piper,
    "coqui": _coqui,
    "nemo": _nemo,
    "kaldi": _kaldi,
}


def _table(split: str) -> str:
    return "metadata.csv" if split == TRAIN else f"metadata_{split}.csv"


def _one_cell(text: str) -> str:
    return " ".join(text.replace("|", " ").split())


def _kaldi_speaker(row: Row) -> str:
    return f"s{row['speaker_id']:04}-{'_'.join(row['speaker'].split())}"


def _json_lines(rows: list[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
