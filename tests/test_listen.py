"""The listening room's data: every clip with its reasons, nothing from elsewhere, the same bytes each time."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from fabricate import HOSTILE, room_runs
from test_survival import run, wipe

from voxmake.errors import BadInput
from voxmake.report.listen.page import BINS, json_for_html, waveform, write_room
from voxmake.report.listen.room import columns, read_room
from voxmake.run.run import read_table
from voxmake.run.store import Lock

FACTS = {
    "project": "test",
    "key": "0123456789ab",
    "runs": ["segment/3fa2b1c94d5e"],
    "missing": [],
    "corrections": "",
    "corrections_path": "reports/test/corrections.csv",
}


def data_of(index):
    """The data of a page, as its script reads it."""
    [found] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', index.read_text(), re.DOTALL)
    return json.loads(found)


def test_a_clip_carries_what_every_run_says_of_it(tmp_path):
    room = read_room(room_runs(tmp_path), seed=42)
    clips = {clip.id: clip for clip in room.clips}
    clip = clips["reader_0003"]
    assert (clip.speaker, clip.split, clip.rank) == ("S01", "train", 2)
    assert clip.text == "Sentence number 3, spoken on a rainy day."
    assert clip.normalised == clip.text.lower()
    assert clip.reasons == ["clipped", "too fast"]
    assert clip.lists == ["suspects"]
    assert clip.values["snr_db"] == 13.0
    assert clip.values["score"] == 3.5
    assert clip.values["state"] == "definite"
    assert clip.path == (tmp_path / "prepare_dataset/audio/train/reader_0003.wav").resolve()
    assert clips["reader_0005"].reasons == ["voice is uncertain", "recognition: wrong text"]
    numeric = dict(columns(room.clips))
    assert numeric["snr_db"]
    assert not numeric["state"]


def test_what_a_recogniser_misheard_comes_with_the_words_that_differ(tmp_path):
    clips = {clip.id: clip for clip in read_room(room_runs(tmp_path), seed=42).clips}
    assert [name for name, clip in sorted(clips.items()) if "misheard" in clip.lists] == [
        "reader_0000",
        "reader_0005",
        "reader_0010",
    ]
    clip = clips["reader_0005"]
    assert "recognition: wrong text" in clip.reasons and clip.values["similarity"] == 0.65
    assert clip.diff == [
        ("both", "sentence number 5"), ("text", "spoken on a"), ("heard", "open an"), ("both", "rainy day")
    ]  # fmt: skip
    assert clips["reader_0001"].diff == [("both", "sentence number 1 spoken on a rainy day")]


def test_suspects_keep_their_order_and_every_list_is_whole(tmp_path):
    runs = room_runs(tmp_path)
    room = read_room(runs, seed=42)
    ranks = {clip.id: clip.rank for clip in room.clips if clip.rank}
    assert ranks == {"reader_0000": 1, "reader_0003": 2, "reader_0006": 3, "reader_0009": 4}
    assert [clip.id for clip in room.clips if "samples" in clip.lists] == ["reader_0001", "reader_0005", "reader_0009"]
    shown = {clip.id for clip in room.clips}
    assert all(clip_id in shown for speaker in room.speakers for clip_id, _ in speaker.samples)


def test_speakers_come_with_most_speech_first_and_noise_last(tmp_path):
    room = read_room(room_runs(tmp_path), seed=42)
    *named, noise = room.speakers
    assert sorted(speaker.name for speaker in named) == ["S01", "S02", "S03"]
    assert [speaker.seconds for speaker in named] == sorted((speaker.seconds for speaker in named), reverse=True)
    assert [role for _, role in named[0].samples[:3]] == ["central", "central", "doubtful"]
    assert (noise.name, noise.clips, noise.samples) == ("", 1, [("reader_0011", "noise")])


def test_what_was_left_out_of_the_dataset_can_be_heard(tmp_path):
    [clip] = [clip for clip in read_room(room_runs(tmp_path), seed=42).clips if "left_out" in clip.lists]
    assert clip.id == "reader_0011"
    assert clip.reasons == ["no speaker found", "left out: no_speaker (noise)"]
    assert clip.path == (tmp_path / "clips/audio/reader_0011.wav").resolve()


def test_without_a_quality_report_clips_are_drawn_by_seed_and_id(tmp_path):
    runs = room_runs(tmp_path, clips=30)
    without = {name: path for name, path in runs.items() if name != "quality_report"}

    def drawn(seed):
        return {clip.id for clip in read_room(without, seed, drawn=5).clips if "random" in clip.lists}

    assert len(drawn(1)) == 5
    assert drawn(1) == drawn(1) != drawn(2)
    table = runs["clips"] / "metadata.csv"
    before = drawn(1)
    header, *rows = table.read_text().removesuffix("\n").split("\n")
    table.write_text("\n".join([header, *reversed(rows)]) + "\n")
    assert drawn(1) == before


@pytest.mark.parametrize(
    "names", [["clips"], ["prepare_dataset"], ["clips", "diarize"], ["diarize", "prepare_dataset"]]
)
def test_any_part_of_the_graph_gives_a_room(tmp_path, names):
    runs = room_runs(tmp_path)
    room = read_room({name: runs[name] for name in names}, seed=42)
    assert room.clips
    assert bool(room.speakers) == ("diarize" in names)
    assert all(clip.path.is_file() for clip in room.clips)


def test_a_table_that_names_a_file_outside_its_run_is_refused(tmp_path):
    runs = room_runs(tmp_path)
    table = runs["clips"] / "metadata.csv"
    table.write_text(table.read_text().replace("audio/reader_0002.wav", "../../secret.wav"))
    (tmp_path.parent / "secret.wav").write_bytes(b"RIFF")
    with pytest.raises(BadInput, match="outside its folder"):
        read_room(runs, seed=42)


def test_a_suspect_that_no_run_holds_is_named_with_its_line(tmp_path):
    runs = room_runs(tmp_path)
    with (runs["quality_report"] / "suspects.tsv").open("a") as table:
        table.write("5\tlost\tgone\t1\t\t1\t1\n")
    with pytest.raises(BadInput, match=r"suspects\.tsv:6: no run holds the clip gone"):
        read_room(runs, seed=42)


def test_the_waveform_shows_the_level():
    seconds = np.arange(16000) / 16000
    wave = np.frombuffer(waveform(0.5 * np.sin(2 * np.pi * 1000 * seconds)), np.int8).reshape(3, BINS)
    assert set(wave[0]) <= {-63, -64}
    assert set(wave[1]) <= {63, 64}
    assert set(wave[2]) <= {44, 45, 46}  # 0.5 / sqrt(2) of 127
    full = np.frombuffer(waveform(np.ones(16000)), np.int8).reshape(3, BINS)
    assert set(full.ravel()) == {127}


@pytest.mark.parametrize("samples", [0, 1, 199, 201])
def test_clips_shorter_than_the_picture_have_a_waveform(samples):
    wave = np.frombuffer(waveform(np.full(samples, 0.5, np.float32)), np.int8)
    assert wave.shape == (3 * BINS,)
    assert set(wave) == ({64} if samples else {0})


@pytest.fixture
def written(tmp_path):
    folder = tmp_path / "listen"
    folder.mkdir()
    write_room(folder, read_room(room_runs(tmp_path / "runs"), seed=42), FACTS)
    return folder


def test_the_page_holds_every_byte_it_needs(written):
    page = (written / "index.html").read_text()
    shell = page.replace(json.dumps(data_of(written / "index.html")), "")
    assert not re.findall(
        r"https?:|//[a-z]+\.|@import|url\(|fetch\(|XMLHttpRequest|import\(|innerHTML|insertAdjacent", shell
    )
    assert "default-src 'none'" in page
    assert "@@" not in page.split('id="data">')[0]
    data = data_of(written / "index.html")
    assert sorted(clip["file"] for clip in data["clips"]) == sorted(
        f"audio/{path.name}" for path in (written / "audio").iterdir()
    )
    assert {path.name for path in written.iterdir()} == {"index.html", "audio"}


def test_a_hostile_text_is_data(written):
    page = (written / "index.html").read_text()
    assert "<img" not in page
    assert page.count("</script>") == 2
    assert "\u2028" not in page
    assert next(clip["text"] for clip in data_of(written / "index.html")["clips"]) == HOSTILE
    assert json.loads(json_for_html({"a": "<!--<script>&\u2029"})) == {"a": "<!--<script>&\u2029"}


def test_a_project_name_is_text(tmp_path):
    (tmp_path / "listen").mkdir()
    room = read_room(room_runs(tmp_path / "runs"), seed=42)
    write_room(tmp_path / "listen", room, FACTS | {"project": "<script>alert(1)</script>"})
    page = (tmp_path / "listen" / "index.html").read_text()
    assert "<title>Listening room: &lt;script&gt;" in page


def test_file_names_are_ours_and_none_is_lost(tmp_path):
    runs = room_runs(tmp_path / "runs", clips=4)
    table = runs["clips"] / "metadata.csv"
    text = table.read_text()
    for number, name in [(0, "audio/a b#?%.wav"), (2, "audio/A_B___.wav"), (3, "audio/größe.wav")]:
        (runs["clips"] / f"audio/reader_{number:04}.wav").rename(runs["clips"] / name)
        text = text.replace(f"audio/reader_{number:04}.wav", name)
    table.write_text(text)
    (tmp_path / "listen").mkdir()
    write_room(tmp_path / "listen", read_room({"clips": runs["clips"]}, seed=42), FACTS)
    names = [path.name for path in (tmp_path / "listen" / "audio").iterdir()]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+\.(wav|flac)", name) for name in names)
    assert len({name.lower() for name in names}) == 4


def test_what_is_done_to_the_copies_leaves_the_runs_alone(written, tmp_path):
    original = tmp_path / "runs/prepare_dataset/audio/train/reader_0003.wav"
    before = original.read_bytes()
    copy = written / "audio" / "reader_0003.wav"
    assert copy.read_bytes() == before
    copy.write_bytes(b"")
    assert original.read_bytes() == before


# ---------------------------------------------------------------------------- the script


@pytest.fixture
def listen(project):
    """Run listen.py; gives exit code and what it said."""

    def listen(*flags):
        return run(project, "listen", "--output", str(project / "listen"), *flags)

    return listen


@pytest.fixture
def preprocessed(project):
    for name in ("collect", "preprocess"):
        assert run(project, name)[0] == 0
    return project


def test_before_any_run_one_line_says_what_to_make(listen, project):
    code, errors = listen()
    assert code == 65
    [line] = errors.splitlines()
    assert "nothing to listen to yet: run `make " in line
    assert not (project / "listen").exists()


def test_the_page_shows_what_there_is_and_says_what_is_not(listen, preprocessed):
    code, errors = listen("--random", "4")
    assert code == 0, errors
    data = data_of(preprocessed / "listen" / "index.html")
    assert len(data["clips"]) == 4
    assert [one["stage"] for one in data["missing"]] == [
        "diarize",
        "prepare_dataset",
        "quality_report",
        "whisper_validate",
    ]
    assert [run.split("/")[0] for run in data["runs"]] == ["preprocess"]
    texts = {row["id"]: row["transcription"] for row in read_table(run_of(preprocessed, "preprocess") / "metadata.csv")}
    assert all(clip["text"] == texts[clip["id"]] for clip in data["clips"])


def run_of(project, stage):
    [folder] = (project / "data" / "runs" / stage).glob("[!.]*")
    return folder


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_made_again_it_is_the_same_and_nothing_is_left_over(listen, preprocessed):
    assert listen()[0] == 0
    before = content(preprocessed / "listen")
    (preprocessed / "listen" / "audio" / "stray.wav").write_bytes(b"")
    assert listen()[0] == 0
    assert content(preprocessed / "listen") == before
    assert not list(preprocessed.glob(".*listen*"))


def test_what_a_killed_run_left_is_cleared_and_two_at_once_do_not_mix(listen, preprocessed):
    (preprocessed / ".listen-new" / "audio").mkdir(parents=True)
    (preprocessed / ".listen-old").mkdir()
    lock = Lock(preprocessed / ".lock-listen")
    assert listen()[0] == 75
    lock.release()
    assert listen()[0] == 0
    assert not list(preprocessed.glob(".*listen*"))


def test_a_folder_that_is_no_listening_room_is_left_alone(listen, preprocessed):
    (preprocessed / "listen").mkdir()
    (preprocessed / "listen" / "diary.txt").write_text("mine")
    code, errors = listen()
    assert code == 73
    assert "name another --output" in errors
    assert (preprocessed / "listen" / "diary.txt").read_text() == "mine"


def test_faulty_corrections_are_named_before_a_page_is_made(listen, preprocessed):
    (preprocessed / "corrections.csv").write_text("target,id,action,value,note\nclip,a,shout,,\n")
    code, errors = listen("--set", f"review.corrections={preprocessed / 'corrections.csv'}")
    assert code == 65
    assert "corrections.csv:2: action 'shout'" in errors
    assert not (preprocessed / "listen").exists()


def test_a_damaged_run_is_named(listen, preprocessed):
    clip = run_of(preprocessed, "preprocess") / "audio" / "clip0002.wav"
    clip.chmod(0o644)
    clip.write_bytes(clip.read_bytes()[:-2])
    code, errors = listen()
    assert code == 65
    assert "clip0002.wav" in errors
    wipe(preprocessed / "data")


def test_make_listen_is_a_verb():
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(r"^  listen +make the page", told, re.MULTILINE)
    help_text = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "listen.py"), "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert "corrections.csv" in help_text
