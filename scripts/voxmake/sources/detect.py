"""Which format a folder or metadata file has. In doubt it asks: a wrong guess would lose transcripts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from voxmake.errors import BadInput
from voxmake.sources import nemo
from voxmake.sources.audiofolder import METADATA_NAMES
from voxmake.sources.checks import file_label
from voxmake.sources.notebook import TARGET_FOLDER
from voxmake.sources.pipes import PipeRow, split_rows, usual_columns
from voxmake.sources.rows import read_lines
from voxmake.sources.tree import is_audio, walk

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".list", ".psv")
SNIFF_BYTES = 4096
SAME_TEXT_SHARE = 0.5  # of the characters of the third column, also in the second: then it is the same sentence


def detect_format(path: Path) -> str:
    if not path.is_dir():
        return _of_file(path)
    if (path / "wav.scp").is_file():
        return "kaldi"
    if any(_below(path / TARGET_FOLDER, ".codex")):
        return "codex"
    names = list(walk(path))
    if (path / "metadata.csv").is_file():
        return _of_file(path / "metadata.csv")
    metadata = [name for name in names if Path(name).name in METADATA_NAMES]
    manifests = [name for name in names if nemo.is_manifest(path / name)]
    if manifests and not set(metadata) - set(manifests):
        return "nemo"
    if metadata:
        return "audiofolder"
    tables = [name for name in names if _may_be_table(path / name)]
    if tables:
        raise BadInput(
            f"{file_label(path)}: {tables[0]} is there and its format is not known: name it as `path:` with its `format:`, "
            f"or set `format: folder` to take the recordings without it"
        )
    if any(is_audio(name) for name in names):
        return "folder"
    seen = ", ".join(names[:3]) or "no files"
    raise BadInput(
        f"{file_label(path)}: no recordings and no metadata there ({seen}): check `path:`, or name the `format:`"
    )


def _may_be_table(file: Path) -> bool:
    """Whether it looks like metadata of a format that is not told by its name."""
    if file.name == "wav.scp" or file.suffix.lower() in TABLE_SUFFIXES:
        return True
    if file.suffix.lower() != ".txt" or not file.is_file():
        return False
    with file.open("rb") as opened:
        first = opened.readline(SNIFF_BYTES)
    return b"|" in first or b"\t" in first


def _below(folder: Path, suffix: str) -> list[str]:
    return [name for name in walk(folder) if name.endswith(suffix)] if folder.is_dir() else []


def _of_file(file: Path) -> str:
    if is_audio(file.name):
        raise BadInput(f"{file_label(file)}: it is a recording: name its folder as `path:`")
    if file.suffix == ".codex":
        return "codex"
    if file.name == "wav.scp":
        return "kaldi"
    if file.suffix in nemo.SUFFIXES and nemo.is_manifest(file):
        return "nemo"
    if file.suffix in (".jsonl", ".parquet"):
        return "audiofolder"
    lines = read_lines(file)
    header = lines[0].text
    if "audio_file" in header.split("|"):
        return "coqui"
    if "file_name" in header.casefold() and "|" not in header:
        return "audiofolder"
    if 2 * sum("|" in line.text for line in lines) >= len(lines):
        return _with_pipes(file)
    raise BadInput(
        f"{file_label(file)}: its first line is neither a header with `file_name` nor `id|text`: name the `format:` "
        f"(audiofolder, ljspeech, piper, coqui, nemo or kaldi)"
    )


def _with_pipes(file: Path) -> str:
    """LJSpeech and Piper differ in the second of three columns: the sentence before normalising, or a speaker."""
    rows = split_rows(file)
    if usual_columns(rows) != 3:
        return "ljspeech"
    votes = Counter(_third_repeats_second(row) for row in rows if len(row.cells) == 3)
    same, other = votes[True], votes[False]
    if same >= 4 * other:
        return "ljspeech"
    if other >= 4 * same:
        return "piper"
    raise BadInput(
        f"{file_label(file)}: its second column is the sentence in some rows and something else in others: name "
        f"`format: ljspeech` (id|text|normalised) or `format: piper` (id|speaker|text)"
    )


def _third_repeats_second(row: PipeRow) -> bool:
    second, third = set(row.cells[1].casefold()), set(row.cells[2].casefold())
    return not third or len(second & third) >= SAME_TEXT_SHARE * len(third)
