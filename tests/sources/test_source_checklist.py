"""Every fault of metadata that the field has met, in one table: what is done about it.

The rows are checklist D of our reliability notes: .venv/core/bin/python -m pytest tests/sources/test_source_checklist.py
"""

import json
import os
import unicodedata
import wave

import pytest

from voxmake.errors import REASONS, BadInput
from voxmake.sources import Source, files_of, read_source

HEADER = "file_name,transcription\n"


def wav(path, seconds=0.1, rate_hz=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(b"".join(i.to_bytes(2, "little") for i in range(int(seconds * rate_hz))))
    return path


def csv_row(cells, audio="a.wav"):
    """A table with one faulty row between two good ones."""

    def build(folder):
        for name in ("first.wav", "a.wav", "last.wav"):
            wav(folder / name)
        row = cells if isinstance(cells, bytes) else cells.encode()
        (folder / "metadata.csv").write_bytes(
            HEADER.encode() + b"first.wav,One\n" + row + b"\nlast.wav,Three\n",
        )

    return build


def pipes(content, names=("a", "b")):
    def build(folder):
        for name in names:
            wav(folder / f"wavs/{name}.wav")
        (folder / "metadata.csv").write_bytes(content if isinstance(content, bytes) else content.encode())

    return build


def jsonl(*rows):
    def build(folder):
        wav(folder / "a.wav")
        wav(folder / "b.wav")
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (folder / "metadata.jsonl").write_text("\n".join([*lines, '{"file_name": "b.wav", "text": "Good"}']) + "\n")

    return build


def manifest(**fields):
    def build(folder):
        wav(folder / "a.wav", seconds=1)
        (folder / "manifest.json").write_text(json.dumps({"audio_filepath": "a.wav", "text": "Hi", **fields}) + "\n")

    return build


def kaldi(scp="a a.wav\n", **files):
    def build(folder):
        wav(folder / "a.wav", seconds=1)
        for name, content in {"wav.scp": scp, "text": "a Hello\n", **files}.items():
            (folder / name).write_text(content)

    return build


def odd_file(make, name="odd.wav"):
    """A row that names something that is no plain audio file."""

    def build(folder):
        wav(folder / "good.wav")
        make(folder, folder / name)
        (folder / "metadata.csv").write_text(HEADER + f"good.wav,One\n{name},Two\n")

    return build


def link_outside(folder, path):
    path.symlink_to(wav(folder.parent / "outside" / "x.wav"))


def folder_link_outside(folder, path):
    wav(folder.parent / "outside" / "odd.wav")
    (folder / "sub").symlink_to(folder.parent / "outside")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 123\n"
BOTH_GOOD = "a|One\nb|Two\n"

CASES = [
    # name, builder, the reasons of the rejected rows in order; "ok": none; a message: the whole file
    ("byte order mark", pipes(b"\xef\xbb\xbfa|One\nb|Two\n"), "ok"),
    ("Windows line ends", pipes("a|One\r\nb|Two\r\n"), "ok"),
    ("blank lines", pipes("\na|One\n\n \nb|Two\n\n"), "ok"),
    ("no line feed at the end", pipes("a|One\nb|Two"), "ok"),
    ("carriage return inside", pipes("a|One\rand more\nb|Two\n"), "text_control_chars"),
    ("old Mac line ends", lambda f: (f / "metadata.csv").write_text("file_name,text\ra.wav,One\r"), "carriage return"),
    ("latin-1 line", pipes(b"a|Gr\xfc\xdfe\nb|Two\n"), "bad_encoding"),
    ("latin-1 line in CSV", csv_row(b"a.wav,Gr\xfc\xdfe"), "bad_encoding"),
    ("latin-1 header", lambda f: (f / "metadata.csv").write_bytes(b"file_name,t\xe9xt\na.wav,One\n"), "UTF-8"),
    ("latin-1 everywhere", pipes(b"a|\xfc\nb|\xfc\n"), "bad_encoding bad_encoding"),
    ("UTF-16", pipes(BOTH_GOOD.encode("utf-16")), "UTF-16"),
    ("UTF-16 without its mark", pipes(BOTH_GOOD.encode("utf-16-le")), "UTF-16"),
    ("UTF-16 big endian", pipes(BOTH_GOOD.encode("utf-16-be")), "UTF-16"),
    ("NUL in the text", csv_row("a.wav,On\0e"), "text_control_chars"),
    ("NUL in the file name", csv_row("a\0.wav,One"), "bad_id"),
    ("escape sequence in the text", csv_row("a.wav,\x1b[31mRed"), "text_control_chars"),
    ("line separator U+2028 keeps the row whole", pipes("a|One\u2028two\nb|Two\n"), "text_control_chars"),
    ("lone surrogate from JSON", jsonl({"file_name": "a.wav", "text": "\ud800"}), "text_control_chars"),
    ("surrogate in a JSON file name", jsonl({"file_name": "\ud800.wav", "text": "x"}), "bad_id"),
    ("quote never closed", csv_row('a.wav,"Hello'), "bad_columns"),
    ("quote closed rows later", csv_row('a.wav,"Hello\nfirst.wav,x"'), "bad_columns duplicate_id"),
    ("line break inside quotes", csv_row('a.wav,"Hello\nyou"'), "text_control_chars"),
    ("text after a closed quote", csv_row('a.wav,"Hello" he said'), "bad_columns"),
    ("quotes as RFC 4180 wants them", csv_row('a.wav,"""Hello,"" he said"'), "ok"),
    ("comma without quotes", csv_row("a.wav,Hello, you"), "bad_columns"),
    ("missing column", csv_row("a.wav"), "bad_columns"),
    ("quote in a pipe table is a quote", pipes('a|"Hello\nb|Two\n'), "ok"),
    ("pipe inside the text", pipes("a|One|two\nb|Two\nc|x\n", "abc"), "bad_columns"),
    ("pipe missing", pipes("a One\nb|Two\n"), "bad_columns"),
    ("empty file", pipes(""), "empty"),
    ("only a byte order mark", pipes(b"\xef\xbb\xbf"), "empty"),
    ("header only", lambda f: (f / "metadata.csv").write_text(HEADER), "no rows"),
    ("no file_name column", lambda f: (f / "metadata.csv").write_text("name,transcription\na.wav,x\n"), "file_name"),
    ("two columns of one name", lambda f: (f / "metadata.csv").write_text("file_name,text,text\na,b,c\n"), "same name"),
    ("unknown text column", lambda f: (f / "metadata.csv").write_text("file_name,utt\na.wav,x\n"), "text_column"),
    ("duplicate id", pipes("a|One\nb|Two\na|Three\n"), "duplicate_id"),
    ("duplicate by case", pipes("a|One\nA|Two\n", ("a", "A")), "duplicate_id"),
    ("duplicate by composition", pipes("é|One\ne\u0301|Two\n", ["é"]), "duplicate_id"),
    ("decomposed file name, composed id", pipes("é|One\n", ["e\u0301"]), "ok"),
    ("unusable row leaves its id to the next", pipes("a|\na|Two\n"), "empty_text"),
    ("id with a slash", pipes("x/a|One\n", ["x/a"]), "ok"),
    ("id with dots going up", pipes("../a|One\nb|Two\n"), "path_outside_root"),
    ("id with a leading minus", pipes("-rf|One\n", ["-rf"]), "ok"),
    ("reserved name of Windows", pipes("CON|One\n", ["CON"]), "ok"),
    ("id like a formula", pipes("=cmd()|One\n", ["=cmd()"]), "ok"),
    ("id with blanks and umlauts", pipes("ä ö|One\n", ["ä ö"]), "ok"),
    ("bidi override in the id", pipes("\u202ea|One\nb|Two\n", ["\u202ea", "b"]), "bad_id"),
    ("id too long", csv_row("x" * 300 + ".wav,One"), "missing_file"),
    ("explicit id too long", jsonl({"file_name": "a.wav", "text": "x", "id": "é" * 128}), "bad_id"),
    ("empty id", pipes("|One\nb|Two\n"), "empty_id"),
    ("no file name", csv_row(",One"), "missing_file"),
    ("missing file", csv_row("nowhere.wav,One"), "missing_file"),
    ("a file as folder", csv_row("first.wav/a.wav,One"), "missing_file"),
    ("path that leaves the folder", csv_row("../../etc/passwd,One"), "path_outside_root"),
    ("absolute path", csv_row("/etc/passwd,One"), "path_outside_root"),
    ("path up and back inside", csv_row("sub/../a.wav,One"), "ok"),
    ("Windows path", odd_file(lambda f, p: wav(f / "sub/odd.wav"), "sub\\odd.wav"), "ok"),
    ("link to a file", odd_file(link_outside), "not_regular_file"),
    ("link to a folder outside", odd_file(folder_link_outside, "sub/odd.wav"), "path_outside_root"),
    ("link to itself", odd_file(lambda f, p: p.symlink_to(p)), "not_regular_file"),
    ("pipe", odd_file(lambda f, p: os.mkfifo(p)), "not_regular_file"),
    ("folder", odd_file(lambda f, p: p.mkdir()), "not_regular_file"),
    ("file without bytes", odd_file(lambda f, p: p.touch()), "empty_file"),
    ("Git LFS pointer", odd_file(lambda f, p: p.write_bytes(LFS)), "lfs_pointer"),
    ("empty text", csv_row("a.wav,"), "empty_text"),
    ("blank text", csv_row("a.wav, \u00a0\u3000 "), "empty_text"),
    ("text of 10,001 characters", csv_row("a.wav," + "x" * 10_001), "text_too_long"),
    ("text of 10,000 characters", csv_row("a.wav," + "x" * 10_000), "ok"),
    ("bidi override", csv_row("a.wav,abc\u202edef"), "text_bidi_override"),
    ("bidi isolate", csv_row("a.wav,abc\u2067def"), "text_bidi_override"),
    ("emoji and joiners", csv_row("a.wav,\U0001f469\u200d\U0001f4bb \u0646\u200c\u0645 \u0915\u094d\u200d"), "ok"),
    ("formula as text", csv_row("a.wav,=cmd()"), "ok"),
    ("broken JSON", jsonl('{"file_name": "a.wav", '), "bad_json"),
    ("JSON list", jsonl("[1, 2]"), "bad_json"),
    ("JSON nested deeply", jsonl("[" * 100_000), "bad_json"),
    ("JSON number as text", jsonl({"file_name": "a.wav", "text": 5}), "bad_columns"),
    ("JSON null as text", jsonl({"file_name": "a.wav", "text": None}), "empty_text"),
    ("NaN as offset", manifest(offset=float("nan"), duration=0.5), "bad_times"),
    ("negative offset", manifest(offset=-1, duration=0.5), "bad_times"),
    ("negative duration", manifest(offset=0.1, duration=-0.5), "bad_times"),
    ("offset as text", manifest(offset="0.1", duration=0.5), "bad_times"),
    ("offset of 400 digits", manifest(offset=10**400), "bad_times"),
    ("segment after the end", manifest(offset=5.0, duration=0.5), "bad_times"),
    ("duration longer than the file", manifest(duration=3.0), "duration_mismatch"),
    ("duration of the whole file", manifest(duration=1.0), "ok"),
    ("command at the end of a Kaldi pipe", kaldi("a sox a.wav -t wav - |\n"), "command_in_metadata"),
    ("command behind a Kaldi pipe", kaldi("a | touch stolen\n"), "command_in_metadata"),
    ("Kaldi segment backwards", kaldi(segments="a a 0.5 0.1\n"), "bad_times"),
    ("Kaldi segment of words", kaldi(segments="a a zero one\n"), "bad_times"),
    ("Kaldi segment without end", kaldi(segments="a a 0.5\n"), "bad_columns"),
    ("Kaldi segment of nothing", kaldi(segments="a b 0 1\n"), "missing_file"),
    ("Kaldi text without audio", kaldi(text="a Hello\nb World\n"), "missing_file"),
    ("Kaldi audio without text", kaldi(text="b World\n"), "empty_text missing_file"),
]


@pytest.mark.parametrize(("build", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_fault(build, expected, tmp_path):
    root = tmp_path / "project"
    folder = root / "source"
    folder.mkdir(parents=True)
    build(folder)
    source = Source(path="source")
    reasons = [] if expected == "ok" else expected.split()
    if not set(reasons) <= set(REASONS):
        with pytest.raises(BadInput, match=expected) as caught:
            read_source(source, root)
        assert "\n" not in str(caught.value)
        assert str(tmp_path) not in str(caught.value)
        return
    listing = read_source(source, root)
    assert [row.reason for row in listing.rejected] == reasons, listing.rejected
    assert listing.recordings or len(reasons) == 1 or set(reasons) <= {"bad_encoding", "empty_text", "missing_file"}
    for row in listing.rejected:
        file, _, number = row.source.rpartition(":")
        assert (folder / file).is_file()
        assert number.isdigit()
        assert row.id.isprintable()
    for recording in listing.recordings:
        assert unicodedata.is_normalized("NFC", recording.id)
    assert not (folder / "stolen").exists()
    assert files_of(source, root) == sorted(set(files_of(source, root)))


def test_emoji_come_through_unchanged(tmp_path):
    text = "\U0001f469\u200d\U0001f4bb \u0646\u200c\u0645"
    csv_row(f"a.wav,{text}")(tmp_path)
    assert read_source(Source(path="."), tmp_path).recordings[1].transcription == text


def test_the_row_below_an_open_quote_survives(tmp_path):
    csv_row('a.wav,"Hello')(tmp_path)
    listing = read_source(Source(path="."), tmp_path)
    assert [r.id for r in listing.recordings] == ["first", "last"]
    assert listing.rejected[0].source == "metadata.csv:3"


def test_in_is_out_plus_rejected_whatever_the_rows_are(tmp_path):
    """400 tables of randomly mixed good and bad rows: no row is lost and none counted twice."""
    import random

    wav(tmp_path / "wavs/a.wav")
    wav(tmp_path / "wavs/b.wav")
    pieces = ["a", "b", "A", "é", "", " ", '"', "x y", "\u202e", "\x00", "/etc/passwd", "../a", "\u2028", "\r", "c|d"]
    for seed in range(400):
        rng = random.Random(seed)
        rows = ["|".join(rng.choices(pieces, k=rng.choice([1, 2, 2, 2, 3]))) for _ in range(rng.randint(1, 12))]
        content = "\n".join(rows).encode()
        if rng.random() < 0.3:
            content = content.replace("é".encode(), b"\xe9")
        (tmp_path / "metadata.csv").write_bytes(content)
        filled = [row for row in content.split(b"\n") if row.strip()]
        try:
            listing = read_source(Source(path=".", format="ljspeech"), tmp_path)
        except BadInput:
            continue  # the file as a whole was refused, and said so
        assert len(listing.recordings) + len(listing.rejected) == len(filled), rows
        ids = [recording.id.casefold() for recording in listing.recordings]
        assert len(ids) == len(set(ids))
