"""Each format read from a tiny source made here, the rules of choice and joining, and detection.

.venv/core/bin/python -m pytest tests/sources/test_source_formats.py
"""

import json
import pickle
import subprocess
import sys
import wave
from pathlib import Path

import pytest
from pydantic import ValidationError

from voxmake.errors import BadInput, ConfigError
from voxmake.sources import Source, fetch, files_of, read_source, read_sources


def wav(path, seconds=0.1, rate_hz=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(b"".join(i.to_bytes(2, "little") for i in range(int(seconds * rate_hz))))
    return path


def summary(listing):
    assert not listing.rejected
    return [(r.id, r.transcription, r.speaker) for r in listing.recordings]


def fill(folder, metadata, audio):
    for name in audio:
        wav(folder / name)
    for name, content in metadata.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_audiofolder(name, tmp_path):
    rows = [
        {"file_name": "audio/a.wav", "Text": "One, two", "speaker_id": "ann", "locale": "en"},
        {"file_name": "b.flac", "Text": "Three", "speaker_id": "bob", "locale": "de"},
    ]
    fill(tmp_path, {}, ["audio/a.wav", "b.flac"])
    if name.endswith("csv"):
        lines = ["file_name,Text,speaker_id,locale"] + [
            ",".join(f'"{value}"' for value in row.values()) for row in rows
        ]
        (tmp_path / name).write_text("\n".join(lines))
    elif name.endswith("jsonl"):
        (tmp_path / name).write_text("\n".join(json.dumps(row) for row in rows))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    listing = read_source(Source(path="."), tmp_path)
    assert summary(listing) == [("a", "One, two", "ann"), ("b", "Three", "bob")]
    assert [r.language for r in listing.recordings] == ["en", "de"]


def test_audiofolder_with_a_metadata_file_per_split(tmp_path):
    fill(tmp_path, {"train/metadata.csv": "file_name,text\na.wav,One\n", "test/metadata.csv": "file_name,text\na.wav,Two\n"},
         ["train/a.wav", "test/a.wav", "test/b.wav"])  # fmt: skip
    listing = read_source(Source(path="."), tmp_path)
    assert summary(listing) == [("test/a", "Two", ""), ("train/a", "One", "")]
    assert listing.unlisted == ["test/b.wav"]
    assert listing.recordings[0].where == "test/metadata.csv:2"


def test_audiofolder_whose_text_column_is_empty_has_no_transcripts(tmp_path):
    fill(tmp_path, {"metadata.csv": "file_name,transcription\na.wav,\nb.wav,\n"}, ["a.wav", "b.wav"])
    assert summary(read_source(Source(path="."), tmp_path)) == [("a", "", ""), ("b", "", "")]


def test_text_column_can_be_named(tmp_path):
    fill(tmp_path, {"metadata.csv": "file_name,raw,cooked\na.wav,1,One\n"}, ["a.wav"])
    assert summary(read_source(Source(path=".", text_column="cooked"), tmp_path)) == [("a", "One", "")]


def test_ljspeech_prefers_the_normalised_text(tmp_path):
    fill(tmp_path, {"metadata.csv": "a|Dr. 1|Doctor one\nb|Two|\n"}, ["wavs/a.wav", "wavs/b.flac"])
    assert summary(read_source(Source(path=".", format="ljspeech"), tmp_path)) == [
        ("a", "Doctor one", ""),
        ("b", "Two", ""),
    ]


@pytest.mark.parametrize("folder", ["wavs", "wav", "audio", "clips", "."])
def test_ljspeech_finds_the_audio(folder, tmp_path):
    fill(tmp_path, {"metadata.csv": "a|One\n"}, [f"{folder}/a.webm", f"{folder}/a.txt"])
    assert read_source(Source(path="."), tmp_path).recordings[0].path.name == "a.webm"


def test_of_two_files_with_one_stem_the_lossless_one_is_taken(tmp_path):
    fill(tmp_path, {"metadata.csv": "a|One\n"}, ["wavs/a.mp3", "wavs/a.wav"])
    listing = read_source(Source(path="."), tmp_path)
    assert listing.recordings[0].path.name == "a.wav"
    assert listing.unlisted == ["wavs/a.mp3"]


def test_piper_with_speakers(tmp_path):
    fill(tmp_path, {"metadata.csv": "a|ann|One sentence\nb.wav|bob|Another one\n"}, ["wav/a.wav", "wav/b.wav"])
    assert summary(read_source(Source(path="."), tmp_path)) == [
        ("a", "One sentence", "ann"),
        ("b", "Another one", "bob"),
    ]


def test_coqui(tmp_path):
    header = "audio_file|text|speaker_name|emotion_name\n"
    fill(tmp_path, {"train.csv": header + 'wavs/a.wav|"He said ""a|b"""|ann|neutral\n'}, ["wavs/a.wav"])
    assert summary(read_source(Source(path="train.csv"), tmp_path)) == [("a", 'He said "a|b"', "ann")]


def test_nemo_with_segments(tmp_path):
    wav(tmp_path / "long.wav", seconds=2)
    wav(tmp_path / "short.wav", seconds=1)
    rows = [
        {"audio_filepath": "short.wav", "text": "Whole", "duration": 1.0, "speaker": "ann"},
        {"audio_filepath": "long.wav", "text": "Start", "duration": 0.5},
        {"audio_filepath": str(tmp_path / "long.wav"), "text": "Middle", "offset": 0.5, "duration": 0.25},
        {"audio_filepath": "long.wav", "text": "End", "offset": 1.5},
    ]
    (tmp_path / "manifest.json").write_text("\n".join(json.dumps(row) for row in rows))
    listing = read_source(Source(path="."), tmp_path)
    assert summary(listing) == [
        ("short", "Whole", "ann"),
        ("long-00000000-00000500", "Start", ""),
        ("long-00000500-00000750", "Middle", ""),
        ("long-00001500-end", "End", ""),
    ]
    frames = []
    for recording in listing.recordings:
        fetch(recording, tmp_path / "out.wav")
        with wave.open(str(tmp_path / "out.wav")) as file:
            frames.append((int.from_bytes(file.readframes(1), "little"), file.getnframes()))
    assert frames == [(0, 8000), (0, 4000), (4000, 2000), (12000, 4000)]


def test_a_segment_of_compressed_audio_is_rejected(tmp_path):
    (tmp_path / "a.mp3").write_bytes(b"ID3" + bytes(2000))
    (tmp_path / "m.jsonl").write_text('{"audio_filepath": "a.mp3", "text": "x", "offset": 1.0, "duration": 1.0}\n')
    [row] = read_source(Source(path="m.jsonl"), tmp_path).rejected
    assert row.reason == "segment_not_wav"


def test_kaldi_with_segments_below_an_audio_root(tmp_path):
    wav(tmp_path / "audio/long.wav", seconds=2)
    fill(
        tmp_path / "data/train",
        {
            "wav.scp": "rec audio/long.wav\n",
            "segments": "u1 rec 0.0 1.0\nu2 rec 1.00 -1\n",
            "text": "u1 hello there\nu2\tyou\n",
            "utt2spk": "u1 ann\nu2 bob\n",
        },
        [],
    )
    listing = read_source(Source(path="data/train", audio_root="."), tmp_path)
    assert summary(listing) == [("u1", "hello there", "ann"), ("u2", "you", "bob")]
    assert [(r.start_s, r.end_s) for r in listing.recordings] == [(0.0, 1.0), (1.0, None)]
    [row] = {row.reason for row in read_source(Source(path="data/train"), tmp_path).rejected}
    assert row == "missing_file"


def test_folder_with_and_without_texts(tmp_path):
    fill(tmp_path, {}, ["b/x.mp3", "a.wav"])
    assert summary(read_source(Source(path=".", speaker="ann"), tmp_path)) == [("a", "", "ann"), ("b/x", "", "ann")]
    (tmp_path / "a.txt").write_text("One\n two\n")
    listing = read_source(Source(path="."), tmp_path)
    assert [(r.id, r.transcription) for r in listing.recordings] == [("a", "One two")]
    assert [(r.id, r.reason) for r in listing.rejected] == [("b/x", "empty_text")]
    (tmp_path / "b/x.lab").write_text("hello\n")
    assert len(read_source(Source(path="."), tmp_path).recordings) == 2
    (tmp_path / "b/x.lab").write_text("0.00 1.25 speech\n")
    assert len(read_source(Source(path="."), tmp_path).recordings) == 1


def take(name, **fields):
    url = fields.pop("url", f".project/attachments/files/GEN/{name}.webm")
    return {"type": "audio", "url": url, "createdAt": 1, "updatedAt": 1, "isDeleted": False, **fields}


def cell(identifier, value, takes, selected=None, **metadata):
    chosen = {"selectedAudioId": selected} if selected else {}
    return {
        "kind": 2,
        "languageId": "html",
        "value": value,
        "metadata": {"id": identifier, "type": "text", "attachments": takes, **chosen, **metadata},
    }


def codex_project(folder, cells, files):
    fill(folder, {"files/target/GEN.codex": json.dumps({"cells": cells, "metadata": {}})}, [])
    for name, content in files.items():
        (folder / ".project/attachments" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / ".project/attachments" / name).write_bytes(content)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 123\n"
CODEX_CELLS = [
    cell("GEN 1:1", "<p>In&nbsp;the <b>begin</b>ning&#8217;s<br/>day<sup class='footnote-marker'>1</sup></p>",
         {"new": take("new", updatedAt=9), "chosen": take("chosen")}, "chosen"),
    cell("GEN 1:2", "<p>Newest</p>", {"old": take("old"), "new": take("new", updatedAt=9), "gone": take("gone", updatedAt=99, isDeleted=True)}),
    cell("GEN 1:3", "<p>Chosen is gone</p>", {"a": take("new"), "b": take("b", isDeleted=True)}, "b"),
    cell("GEN 1:4", "<p></p>", {"a": take("new")}),
    cell("GEN 1:5", "<p>Pointer only</p>", {"a": take("pointer")}),
    cell("GEN 1:6", "<p>Nowhere</p>", {"a": take("nowhere")}),
    cell("GEN 1:7", "<p>Old layout</p>", {"a": take("x", url=".project/attachments/GEN/plain.webm")}),
    cell("GEN 1:8", "<p>Windows</p>", {"a": take("x", url=".project\\attachments\\pointers\\GEN\\smudged.webm")}),
    cell("GEN 1:9", "<p>Out</p>", {"a": take("x", url="../../etc/passwd")}),
    cell("GEN 1:10", "<p>No audio</p>", {}),
    cell("GEN 1:11", "<p>All deleted</p>", {"a": take("new", isDeleted=True)}, "a"),
    cell("GEN 1:12", "<h1>Heading</h1>", {"a": take("new")}, type="paratext"),
    cell("1", "Genesis 1", {"a": take("new")}, type="milestone"),
    cell("GEN 1:13", "<p>Merged</p>", {"a": take("new")}, data={"merged": True}),
]  # fmt: skip
CODEX_FILES = {
    "files/GEN/new.webm": b"new",
    "files/GEN/old.webm": b"old",
    "pointers/GEN/new.webm": LFS,
    "files/GEN/chosen.webm": LFS,
    "pointers/GEN/chosen.webm": b"chosen",
    "files/GEN/pointer.webm": LFS,
    "pointers/GEN/pointer.webm": LFS,
    "GEN/plain.webm": b"plain",
    "pointers/GEN/smudged.webm": b"smudged",
    "files/GEN/orphan.webm": b"orphan",
}


def test_codex(tmp_path):
    codex_project(tmp_path, CODEX_CELLS, CODEX_FILES)
    listing = read_source(Source(path="."), tmp_path)
    assert [(r.id, r.transcription, r.path.read_bytes()) for r in listing.recordings] == [
        ("GEN 1:1", "In the beginning’s day", b"chosen"),
        ("GEN 1:2", "Newest", b"new"),
        ("GEN 1:7", "Old layout", b"plain"),
        ("GEN 1:8", "Windows", b"smudged"),
    ]
    assert [(r.id, r.reason, r.source) for r in listing.rejected] == [
        ("GEN 1:3", "take_not_chosen", "files/target/GEN.codex:3"),
        ("GEN 1:4", "empty_text", "files/target/GEN.codex:4"),
        ("GEN 1:5", "lfs_pointer", "files/target/GEN.codex:5"),
        ("GEN 1:6", "missing_file", "files/target/GEN.codex:6"),
        ("GEN 1:9", "path_outside_root", "files/target/GEN.codex:9"),
    ]
    assert listing.counts == {"cells_without_audio": 2, "cells_not_spoken": 2, "cells_merged_or_deleted": 1}
    assert sum(listing.counts.values()) + len(listing.recordings) + len(listing.rejected) == len(CODEX_CELLS)
    assert listing.unlisted == [".project/attachments/files/GEN/orphan.webm"]
    assert {file.name for file in files_of(Source(path="."), tmp_path)} >= {"GEN.codex", "orphan.webm", "plain.webm"}


def test_codex_with_a_merge_conflict_is_refused(tmp_path):
    fill(tmp_path, {"files/target/GEN.codex": "<<<<<<< HEAD\n{}"}, [])
    with pytest.raises(BadInput, match=r"files/target/GEN\.codex.*merge conflicts"):
        read_source(Source(path="."), tmp_path)


def test_joining_keeps_the_first_of_two_ids_in_the_configs_order(tmp_path):
    for name in ("one", "two"):
        fill(tmp_path / name, {"metadata.csv": f"a|From {name}\n"}, ["wavs/a.wav"])
    sources = [Source(path="two"), Source(path="one")]
    listing = read_sources(sources, tmp_path)
    assert [(r.transcription, r.where) for r in listing.recordings] == [("From two", "two/metadata.csv:1")]
    assert [(r.reason, r.source) for r in listing.rejected] == [("duplicate_id", "one/metadata.csv:1")]
    listing = read_sources([sources[0], Source(path="one", prefix="one-")], tmp_path)
    assert [r.id for r in listing.recordings] == ["a", "one-a"]
    with pytest.raises(ConfigError, match="empty"):
        read_sources([], tmp_path)


def test_the_same_files_written_in_another_order_list_alike(tmp_path):
    names = ["b.wav", "a/c.wav", "Z.wav", "a/ä.wav"]
    for folder, order in (("one", names), ("two", names[::-1])):
        fill(tmp_path / folder, {}, order)
    one, two = (summary(read_source(Source(path=folder), tmp_path)) for folder in ("one", "two"))
    assert one == two == [("Z", "", ""), ("a/c", "", ""), ("a/ä", "", ""), ("b", "", "")]


@pytest.mark.parametrize(
    ("metadata", "audio", "message"),
    [
        ({}, [], "no recordings and no metadata"),
        ({"notes.md": "hi"}, [], "notes.md"),
        ({"transcripts.tsv": "path\tsentence\n"}, ["a.wav"], "transcripts.tsv"),
        ({"filelist.txt": "wavs/a.wav|Hello\n"}, ["wavs/a.wav"], "filelist.txt"),
        ({"metadata.csv": "a;Hello\n"}, ["wavs/a.wav"], "name the `format:`"),
        ({"metadata.csv": "a|Hello you|Hello you\nb|ann|Hello\n"}, ["wavs/a.wav"], "format: piper"),
        ({"data/train/wav.scp": "a a.wav\n"}, ["a.wav"], "wav.scp"),
    ],
)
def test_in_doubt_detection_asks(metadata, audio, message, tmp_path):
    fill(tmp_path / "source", metadata, audio)
    (tmp_path / "source").mkdir(exist_ok=True)
    with pytest.raises(BadInput) as caught:
        read_source(Source(path="source"), tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("name", ["audiofolder", "ljspeech", "piper", "coqui", "nemo", "kaldi", "codex", "folder"])
def test_a_format_that_is_not_there_says_so(name, tmp_path):
    with pytest.raises(BadInput, match="nowhere"):
        read_source(Source(path="nowhere", format=name), tmp_path)
    wav(tmp_path / "source/a.wav")
    if name != "folder":
        with pytest.raises(BadInput, match=f"format: {name}"):
            read_source(Source(path="source", format=name), tmp_path)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({}, ValidationError, "path"),
        ({"path": "x", "pth": "y"}, ValidationError, "pth"),
        ({"path": "x", "project": "a/b"}, ValidationError, "gitlab"),
        ({"format": "gitlab"}, ValidationError, "project"),
        ({"format": "gitlab", "project": "a/b", "url": "http://gitlab.example"}, ValidationError, "https"),
        ({"format": "gitlab", "project": "a/b", "token": "glpat-CANARY"}, ConfigError, "GITLAB_TOKEN"),
        ({"format": "gitlab", "project": "a/b", "url": "https://u:glpat-CANARY@x.org"}, ConfigError, "GITLAB_TOKEN"),
    ],
)
def test_a_wrong_entry_is_refused_without_repeating_secrets(fields, error, message):
    with pytest.raises(error, match=message) as caught:
        Source(**fields)
    assert "CANARY" not in str(caught.value)


def test_recordings_travel_to_worker_processes(tmp_path):
    wav(tmp_path / "a.wav")
    [recording] = read_source(Source(path="."), tmp_path).recordings
    assert pickle.loads(pickle.dumps(recording)) == recording


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, voxmake.sources; print([m for m in ('pyarrow', 'gitlab', 'requests', 'numpy') if m in sys.modules])"
    scripts = Path(__file__).parents[2] / "scripts"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=scripts, check=True)
    assert done.stdout.strip() == "[]"
