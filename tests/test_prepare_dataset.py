"""prepare_dataset: the whole stage, and every format read back by another reader."""

import csv
import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import made_runs
import pytest
import soundfile
from conftest import ROOT
from test_survival import run as run_script

import prepare_dataset
from voxmake.dataset import exports
from voxmake.run.run import read_table
from voxmake.run.store import check_run, read_manifest
from voxmake.sources import Source, read_sources

FORMATS = ("ljspeech", "piper", "coqui", "nemo", "kaldi")
TRICKY = [  # ids that look like splits or numbers, texts that look like nothing, quotes and pipes
    {"id": "test_1", "text": 'She said "None of that" and left us all.'},
    {"id": "train-0002", "text": '"Quoted" at the start, not at the end.'},
    {"id": "007", "text": "NA"},
    {"id": "validation", "text": "null"},
    {"id": "eval 3/x y", "file_name": "audio/eval_3_x_y-0123abcd.wav", "text": "A pipe | inside, and 21 cats."},
    {"id": "2020-01-02", "text": "Größe — naïve, ‘so’ sagte sie heute früh."},
    {"id": "+minus", "text": "=1+1 is the start of a formula, isn't it?"},
]


class Prepare:
    """Publish made clips, prepare them, and give the folder of the result; `told` is what the script logged."""

    def __init__(self, root):
        self.root, self.told, self.inputs = root, "", 0
        (root / "x.yaml").write_text(
            f"extends: {ROOT / 'configs' / 'base.yaml'}\nproject: test\nexecution: {{workers: 2, progress: plain}}\n"
        )

    def __call__(self, clips, *flags, output="out", expect=0, suffix=".wav"):
        self.inputs += 1
        inputs = made_runs.runs(self.root / f"in-{self.inputs}", clips, suffix)
        code, self.told = run_script(self.root, "prepare_dataset", *inputs, "--output", str(self.root / output), *flags)
        assert code == expect, self.told
        return self.root / output


@pytest.fixture
def prepare(tmp_path):
    return Prepare(tmp_path)


def tricky_clips():
    return [made_runs.clip(n, duration_s=3.0) | facts for n, facts in enumerate(TRICKY)] + [
        made_runs.clip(n) for n in range(10, 50)
    ]


TRICKY_FLAGS = (
    "--set", "dataset.min_chars_per_s=0", "--set", "dataset.outlier_iqr=null", "--set", "dataset.test_ratio=0.1",
)  # fmt: skip


@pytest.fixture(scope="module")
def tricky(tmp_path_factory):
    """One result that many tests read: its folder and the rows of its metadata.csv."""
    clips = [one | {"transcription": one.get("text", one["transcription"])} for one in tricky_clips()]
    folder = Prepare(tmp_path_factory.mktemp("test_train"))(clips, *TRICKY_FLAGS)
    return folder, read_table(folder / "metadata.csv")


def test_metadata_says_all_that_later_stages_read(tricky):
    folder, rows = tricky
    assert list(rows[0]) == list(prepare_dataset.COLUMNS)
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    assert {row["speaker"]: row["speaker_id"] for row in rows} == {"ann": "0", "ben": "1"}
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    by_id = {row["id"]: row for row in rows}
    piped = by_id["eval 3/x y"]
    assert piped["text"] == "A pipe inside, and twenty-one cats."
    assert piped["transcription"] == "A pipe | inside, and 21 cats."
    assert piped["file_name"] == f"audio/{piped['split']}/eval_3_x_y-0123abcd.wav"
    assert by_id["007"]["text"] == "NA"
    for row in rows:
        assert (folder / row["file_name"]).stat().st_nlink == 7
        assert row["level_db"] == "-20.0"


def test_audio_is_stored_once(tricky):
    folder, rows = tricky
    inodes = {path.stat().st_ino for path in folder.rglob("*.wav")}
    assert len(inodes) == len(rows)
    assert len(list(folder.rglob("*.wav"))) == 7 * len(rows)


def test_hub_dataset_opens_with_its_columns_and_audio(tricky):
    import datasets

    folder, rows = tricky
    found = datasets.load_from_disk(folder / "hf")
    assert found.keys() == {"train", "validation", "test"}
    assert found["train"].features["audio"] == datasets.Audio(sampling_rate=made_runs.RATE_HZ)
    assert_same(found, folder, rows)


@pytest.fixture
def audio_feature(monkeypatch):
    """`datasets` 5 imports torchcodec before it looks at a file, and then only copies the file's bytes. Where that
    package (and the ffmpeg libraries it loads) is not installed, the names alone are enough."""
    if importlib.util.find_spec("torchcodec") is None:
        encoders = types.ModuleType("torchcodec.encoders")
        encoders.AudioEncoder = None
        monkeypatch.setitem(sys.modules, "torchcodec", types.ModuleType("torchcodec"))
        monkeypatch.setitem(sys.modules, "torchcodec.encoders", encoders)


@pytest.mark.parametrize("by_path", [False, True])
def test_audiofolder_opens_with_its_columns_and_audio(tricky, tmp_path, audio_feature, by_path):
    import datasets

    folder, rows = tricky
    where = (
        {"path": str(folder / "audiofolder")}
        if by_path
        else {"path": "audiofolder", "data_dir": str(folder / "audiofolder")}
    )
    found = datasets.load_dataset(**where, cache_dir=str(tmp_path / "cache"))
    assert found.keys() == {"train", "validation", "test"}
    assert "label" not in found["train"].features
    assert_same(found, folder, rows)


def assert_same(found, folder, rows):
    """The splits of a DatasetDict hold what metadata.csv and audio/ say."""
    import datasets

    seen = 0
    for split, part in found.items():
        assert set(part.features) == {"audio", "text", "speaker_id", "speaker", "id", "language", "duration_s"}
        own = {row["id"]: row for row in rows if row["split"] == split}
        for example in part.cast_column("audio", datasets.Audio(decode=False)):
            row, seen = own[example["id"]], seen + 1
            assert (example["text"], example["speaker"], str(example["speaker_id"])) == (
                row["text"], row["speaker"], row["speaker_id"],
            )  # fmt: skip
            assert str(example["duration_s"]) == row["duration_s"]
            sound = example["audio"]["bytes"] or Path(example["audio"]["path"]).read_bytes()
            assert sound == (folder / row["file_name"]).read_bytes()
    assert seen == len(rows)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("name", FORMATS)
def test_exports_read_back(tricky, name, split):
    folder, rows = tricky
    root = folder / "exports" / name
    table = root / ("metadata.csv" if split == "train" else f"metadata_{split}.csv")
    source = {
        "nemo": {"path": str(root / f"{split}_manifest.json")},
        "kaldi": {"path": str(root / split), "audio_root": str(root)},
    }.get(name, {"path": str(table)})
    listing = read_sources([Source(format=name, **source)], root)
    assert listing.rejected == []
    own = {Path(row["file_name"]).stem: row for row in rows if row["split"] == split}
    assert len(listing.recordings) == len(own)
    for recording in listing.recordings:
        row = own[recording.path.stem]
        assert recording.path.read_bytes() == (folder / row["file_name"]).read_bytes()
        assert recording.transcription == (row["text"].replace('"', "") if name == "piper" else row["text"])
        speaker = {"ljspeech": "", "nemo": row["speaker_id"], "kaldi": f"s000{row['speaker_id']}-{row['speaker']}"}
        assert recording.speaker == speaker.get(name, row["speaker"])
        assert recording.start_s is None


def test_whole_folders_are_told_by_themselves(tricky):
    folder, rows = tricky
    for name in ("piper", "coqui", "ljspeech", "nemo"):
        listing = read_sources([Source(path=f"exports/{name}")], folder)
        assert listing.rejected == [], name
        assert len(listing.recordings) == (len(rows) if name == "nemo" else sum(r["split"] == "train" for r in rows))


def test_piper_numbers_speakers_as_we_do(tricky):
    """Its loader: rows through csv with pipes, speakers numbered as they first appear."""
    folder, rows = tricky
    with (folder / "exports/piper/metadata.csv").open(encoding="utf-8") as stream:
        lines = list(csv.reader(stream, delimiter="|"))
    assert len(lines) == sum(row["split"] == "train" for row in rows)
    numbers = {}
    for _, speaker, _ in lines:
        numbers.setdefault(speaker, len(numbers))
    assert numbers == {row["speaker"]: int(row["speaker_id"]) for row in rows}


def test_kaldi_is_sorted_by_utterance_and_by_speaker(prepare):
    names = ["a", "a-b", "a b", "Z"]
    clips = [made_runs.clip(n, speaker=names[n % 4]) for n in range(60)]
    folder = prepare(clips) / "exports/kaldi/train"
    pairs = [line.split() for line in (folder / "utt2spk").read_text().splitlines()]
    assert pairs == sorted(pairs) == sorted(pairs, key=lambda pair: pair[::-1])
    assert len({speaker for _, speaker in pairs}) == 4
    assert all(utterance.startswith(speaker + "-") for utterance, speaker in pairs)
    for name in ("wav.scp", "text"):
        assert [line.split()[0] for line in (folder / name).read_text().splitlines()] == [pair[0] for pair in pairs]
    told = dict(line.split(" ", 1) for line in (folder / "spk2utt").read_text().splitlines())
    assert sorted(utterance for utterances in told.values() for utterance in utterances.split()) == [
        p[0] for p in pairs
    ]


def test_only_the_chosen_formats_are_there(prepare):
    folder = prepare([made_runs.clip(n) for n in range(40)], "--set", "dataset.exports=[nemo]")
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["MANIFEST.sha256", "audio", "exports", "metadata.csv", "rejected.csv", "run.json", "run.log", "sizes.json",
         "stats", "stats.json"]
    )  # fmt: skip
    assert [path.name for path in (folder / "exports").iterdir()] == ["nemo"]


def test_same_bytes_again_elsewhere_and_nothing_of_this_machine(prepare, tmp_path):
    clips = [made_runs.clip(n) for n in range(40)]
    one = prepare(clips, output="one")
    other = prepare(clips[::-1], "--set", "execution.workers=1", output="some/where/else/with/a/longer/name")
    assert read_manifest(one) == read_manifest(other)
    assert check_run(one, full=True) == []
    for name in read_manifest(one):
        assert str(tmp_path).encode() not in (one / name).read_bytes(), name


def test_killed_and_resumed(prepare, tmp_path):
    clips = [made_runs.clip(n) for n in range(400)]
    expected = read_manifest(prepare(clips, output="undisturbed"))
    flags = made_runs.runs(tmp_path / "in", clips)
    command = [sys.executable, str(ROOT / "scripts/prepare_dataset.py"), "--config", str(tmp_path / "x.yaml"), *flags,
               "--output", str(tmp_path / "out")]  # fmt: skip
    for journalled in (20, 400):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
            while sum(path.read_bytes().count(b"\n") for path in tmp_path.glob(".journal-out")) < journalled:
                time.sleep(0.01)
                assert process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
    time.sleep(0.2)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "of 400 clips are done already" in done.stderr
    assert read_manifest(tmp_path / "out") == expected


def test_where_there_are_no_hard_links_files_are_copied(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(1, "Operation not permitted")

    (tmp_path / "a").write_bytes(b"sound")
    (tmp_path / "b").write_bytes(b"left by a killed run")
    monkeypatch.setattr(os, "link", no_links)
    exports.link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"sound"
    assert (tmp_path / "b").stat().st_nlink == 1


def test_flac_clips_become_wav_with_the_same_samples(prepare):
    clips = []
    for number in range(30):
        wav = made_runs.wav(20000, number)
        samples, rate_hz = soundfile.read(io.BytesIO(wav), dtype="int16")
        flac = io.BytesIO()
        soundfile.write(flac, samples, rate_hz, format="FLAC", subtype="PCM_16")
        clips.append(made_runs.clip(number, data=flac.getvalue()) | {"samples": samples})
    rows = read_table(prepare(clips, suffix=".flac") / "metadata.csv")
    folder = prepare(clips, suffix=".flac", output="again")
    for row, one in zip(rows, clips, strict=True):
        assert row["file_name"].endswith(".wav")
        info = soundfile.info(folder / row["file_name"])
        assert (info.format, info.subtype, info.samplerate) == ("WAV", "PCM_16", made_runs.RATE_HZ)
        assert (soundfile.read(folder / row["file_name"], dtype="int16")[0] == one["samples"]).all()


def test_every_clip_left_out_is_named_with_its_reason(prepare, tmp_path):
    (tmp_path / "corrections.csv").write_text(
        "target,id,action,value,note\nclip,clip0003,reject,,door slams\nclip,clip0004,text,It is 5 past ten then.,\n"
        "clip,clip0005,good,,\nclip,gone,text,Hello.,\n"
    )
    clips = [made_runs.clip(n) for n in range(60)]
    clips[5]["state"] = clips[7]["state"] = "outlier"
    clips[9] |= {"transcription": ""}
    folder = prepare(
        clips, "--set", f"review.corrections={tmp_path / 'corrections.csv'}", "--set", "dataset.outlier_iqr=null"
    )
    assert {row["id"]: row["reason"] for row in read_table(folder / "rejected.csv")} == {
        "clip0003": "rejected_by_review", "clip0007": "speaker_outlier", "clip0009": "no_transcript",
    }  # fmt: skip
    rows = {row["id"]: row for row in read_table(folder / "metadata.csv")}
    assert rows["clip0004"]["text"] == "It is five past ten then."
    assert rows["clip0004"]["transcription"] == clips[4]["transcription"]
    assert rows["clip0005"]["speaker_state"] == "outlier"
    assert "1 texts are of clips that are not in this set: gone" in prepare.told
    stats = {name: facts["value"] for name, facts in json.loads((folder / "stats.json").read_text()).items()}
    assert (stats["items_in"], stats["items_out"], stats["rejected_rejected_by_review"]) == (60, 57, 1)
    assert all(row["text"] for row in rows.values())


def test_no_text_stands_on_two_sides(prepare):
    clips = [made_runs.clip(n, text=made_runs.sentence(n % 40).upper() + "!" * (n % 3)) for n in range(160)]
    rows = read_table(prepare(clips, "--set", "dataset.outlier_iqr=null") / "metadata.csv")
    split_of = {}
    for row in rows:
        assert split_of.setdefault(re.sub(r"\W", "", row["text"]), row["split"]) == row["split"]
    assert len(split_of) == 40


def test_clips_without_transcripts_are_left_out_and_do_not_stop_the_rest(prepare):
    clips = [made_runs.clip(n) for n in range(60)] + [
        made_runs.clip(n, text="", duration_s=2.0) for n in range(60, 120)
    ]
    folder = prepare(clips)
    assert len(read_table(folder / "metadata.csv")) == 60
    assert {row["reason"] for row in read_table(folder / "rejected.csv")} == {"no_transcript"}


def test_choosing_speakers_is_no_fault_of_the_data(prepare):
    clips = [made_runs.clip(n) for n in range(60)]
    folder = prepare(clips, "--set", "dataset.speakers=[ben]")
    rows = read_table(folder / "metadata.csv")
    assert {(row["speaker"], row["speaker_id"]) for row in rows} == {("ben", "0")}
    assert len(read_table(folder / "rejected.csv")) == 30
    prepare(clips, "--set", "dataset.speakers=[ben, bem]", output="other", expect=2)
    assert "dataset.speakers: diarize found no bem; there are: ann, ben" in prepare.told


def test_too_little_to_train_on_fails_the_gate_with_a_remedy(prepare):
    folder = prepare([made_runs.clip(n) for n in range(30)], "--set", "dataset.train_batch_size=64", expect=1)
    assert re.search(r"train_clips is \d+, needs 64: record more, reject less, or lower", prepare.told)
    sizes = json.loads((folder / "sizes.json").read_text())
    assert [check["name"] for check in sizes["checks"] if not check["passed"]] == ["train_clips"]
    assert sizes["speakers"]["ann"]["train"] + sizes["speakers"]["ann"]["validation"] == 15
    assert sizes["splits"]["train"]["batches_per_epoch"] == 1
    assert (folder / "hf/train/state.json").is_file()  # the outputs are complete


def test_one_sentence_for_all_leaves_nothing_to_validate(prepare):
    clips = [made_runs.clip(n, text="The same sentence again and again.", duration_s=2.5) for n in range(40)]
    prepare(clips, expect=1)
    assert "validation_clips is 0, needs 1: record other sentences" in prepare.told
    assert "validation_clips_of_a_speaker is 0, needs 1: ann has the fewest" in prepare.told


def test_bad_input_stops_with_one_line(prepare):
    clips = [made_runs.clip(n, text="") for n in range(20)]
    prepare(clips, expect=65)
    assert "nothing is left of 20 items (20 no_transcript)" in prepare.told
    clips = [made_runs.clip(n) for n in range(19)] + [made_runs.clip(19, sample_rate_hz=22050)]
    prepare(clips, expect=65)
    assert "clips have 2 sample rates (16000, 22050 Hz), a dataset has one: run preprocess" in prepare.told


def test_characters_and_digits_are_reported(prepare):
    clips = [made_runs.clip(n, language="xx", text=f"{made_runs.sentence(n)} {n} é") for n in range(40)]
    folder = prepare(clips)
    rows = {row["character"]: row for row in read_table(folder / "stats/characters.csv")}
    assert rows["é"] == {
        "character": "é", "codepoint": "U+00E9", "name": "LATIN SMALL LETTER E WITH ACUTE", "uses": "40", "clips": "40",
        "first_id": "clip0000",
    }  # fmt: skip
    assert "40 texts keep their digits (language xx): set dataset.language" in prepare.told
    assert json.loads((folder / "stats.json").read_text())["digits_left"]["value"] == 40


def test_the_language_of_the_config_serves_clips_that_name_none(prepare):
    clips = [made_runs.clip(n, language="", text=f"{made_runs.sentence(n)} {n}.") for n in range(40)]
    rows = read_table(prepare(clips, "--set", "dataset.language=de") / "metadata.csv")
    assert rows[21]["text"].endswith(" einundzwanzig.")
    assert rows[21]["language"] == "de"


def test_limit_and_dry_run(prepare, tmp_path):
    clips = [made_runs.clip(n) for n in range(60)]
    prepare(clips, "--dry-run", output="none")
    assert "would work on 60 clips" in prepare.told
    assert not (tmp_path / "none").exists()
    assert len(read_table(prepare(clips, "--limit", "40") / "metadata.csv")) == 40
    assert "40 in, 40 out, 0 rejected" in prepare.told


def test_real_recordings_through_the_whole_graph(tmp_path, real):
    (tmp_path / "x.yaml").write_text(
        f"extends: {ROOT / 'configs' / 'base.yaml'}\nproject: test\nstages: [prepare_dataset]\n"
        f"collect: {{sources: [{{path: {real / 'kathleen_en'}, language: en}}, {{path: {real / 'kerstin_de'}, language: de}}]}}\n"
        "execution: {workers: 2, progress: plain, max_rejected_ratio: 0.1}\n"
    )
    for stage in ("collect", "preprocess", "diarize", "prepare_dataset"):
        code, errors = run_script(tmp_path, stage)
        assert code == 0, errors
    [folder] = (tmp_path / "data/runs/prepare_dataset").glob("[!.]*")
    rows = read_table(folder / "metadata.csv")
    assert len(rows) + len(read_table(folder / "rejected.csv")) == 250
    speakers = {row["source"].split("/")[0]: set() for row in rows}
    for row in rows:
        speakers[row["source"].split("/")[0]].add(row["speaker"])
        assert not any(c.isdigit() for c in row["text"])
    assert [len(names) for names in speakers.values()] == [1, 1]
    assert {row["split"] for row in rows if row["speaker"] == "S01"} == {"train", "validation"}
