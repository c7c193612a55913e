"""collect: every row is in the set or in rejected.csv; what comes in stays as it is."""

import csv
import json
import re
import shutil
import unicodedata

import pytest
from conftest import ROOT, audio_folder
from test_survival import results, run

import collect
from voxmake.run.run import read_table


@pytest.fixture
def collected(project):
    """Run collect on a config; gives the published folder."""

    def collected(*flags, expect=0):
        code, errors = run(project, "collect", *flags)
        assert code == expect, errors
        assert errors.count("Traceback") == 0
        [folder] = (project / "data" / "runs" / "collect").glob("[!.]*") if code == 0 else [errors]
        return folder

    return collected


def test_the_set_holds_the_bytes_of_the_originals(project, collected):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (project / "recordings").rglob("*.*")}
    folder = collected()
    rows = read_table(folder / "metadata.csv")
    assert list(rows[0])[:2] == ["file_name", "transcription"]
    assert [row["id"] for row in rows] == [f"clip{n:04}" for n in range(6)]
    for row in rows:
        assert (folder / row["file_name"]).read_bytes() == (
            project / "recordings" / "audio" / f"{row['id']}.wav"
        ).read_bytes()
        assert row["transcription"] == f"Sentence number {int(row['id'][4:])}."
        assert re.fullmatch(r"metadata\.csv:\d+", row["source"])
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before}


def test_exactly_these_files_are_there(project, collected):
    folder = collected()
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert names == sorted(
        ["MANIFEST.sha256", "metadata.csv", "rejected.csv", "run.json", "run.log", "stats.json", "unlisted.txt"]
        + [f"audio/clip{n:04}.wav" for n in range(6)]
    )
    for facts in json.loads((folder / "stats.json").read_text()).values():
        assert set(facts) == {"value", "unit", "description"}
        assert facts["description"]


def spoil(project):
    with (project / "recordings" / "metadata.csv").open("a") as metadata:
        metadata.write(
            'audio/gone.wav,No such file.\naudio/clip0001.wav,"=cmd()"\n../x.wav,Outside.\naudio/note.wav,Not audio.\n'
        )
    (project / "recordings" / "audio" / "note.wav").write_text("ffconcat version 1.0\nfile clip0001.wav\n")
    (project / "recordings" / "audio" / "extra.flac").write_bytes(b"fLaC")


def test_every_bad_row_is_named_with_its_reason(project, collected):
    spoil(project)
    folder = collected("--set", "execution.max_rejected_ratio=0.5")
    reasons = {(row["source"], row["reason"]) for row in read_table(folder / "rejected.csv")}
    assert reasons == {
        ("metadata.csv:8", "missing_file"),
        ("metadata.csv:9", "duplicate_id"),
        ("metadata.csv:10", "path_outside_root"),
        ("metadata.csv:11", "not_audio"),
    }
    stats = {name: facts["value"] for name, facts in json.loads((folder / "stats.json").read_text()).items()}
    assert (stats["items_in"], stats["items_out"], stats["items_rejected"]) == (10, 6, 4)
    assert (folder / "unlisted.txt").read_text() == "audio/extra.flac\n"


def test_too_many_bad_rows_stop_the_stage_and_a_higher_limit_goes_on(project, collected):
    spoil(project)
    errors = collected(expect=65)
    assert "4 of 10 items rejected (1 duplicate_id, 1 missing_file, 1 not_audio, 1 path_outside_root)" in errors
    assert not list((project / "data" / "runs" / "collect").glob("[!.]*"))
    folder = collected("--set", "execution.max_rejected_ratio=0.4")
    assert len(read_table(folder / "metadata.csv")) == 6


def test_doctor_names_row_reason_and_remedy_and_copies_nothing(project, monkeypatch, capsys):
    monkeypatch.setattr(collect, "PROJECT_ROOT", project)
    spoil(project)
    assert collect.main(["--config", str(project / "x.yaml"), "--doctor"]) == 65
    told = capsys.readouterr().out
    assert "metadata.csv:8: audio/gone.wav: missing_file" in told
    assert "copy it in, or delete the row" in told
    assert "note: not_audio" in told
    report = read_table(project / "reports" / "test" / "rejected.csv")
    assert [row["reason"] for row in report] == ["missing_file", "duplicate_id", "path_outside_root", "not_audio"]
    assert not (project / "data" / "runs").exists()


def test_doctor_is_content_with_good_rows(project, monkeypatch, capsys):
    monkeypatch.setattr(collect, "PROJECT_ROOT", project)
    assert collect.main(["--config", str(project / "x.yaml"), "--doctor"]) == 0
    assert "6 rows are sound, 0 are not" in capsys.readouterr().out


def test_cells_that_look_like_formulas_are_plain_text_in_the_report(project, collected):
    with (project / "recordings" / "metadata.csv").open("a") as metadata:
        metadata.write("=cmd.wav,x\n")
    folder = collected("--set", "execution.max_rejected_ratio=0.5")
    [row] = csv.DictReader((folder / "rejected.csv").open())
    assert row["id"].startswith("'=")


def test_one_pass_gives_the_bytes_of_two(project):
    spoil(project)
    ratio = ("--set", "execution.max_rejected_ratio=0.5")
    for name in ("collect", "preprocess"):
        assert run(project, name, *ratio)[0] == 0
    assert run(project, "collect", *ratio, "--set", "collect.preprocess=true", data="one")[0] == 0

    def clips(data, stage):
        found = results(project, data).items()
        return {
            name.split("/", 2)[2]: digest
            for name, digest in found
            if name.startswith(stage) and ("audio/" in name or "metadata" in name)
        }

    assert clips("one", "collect") == clips("data", "preprocess") != {}
    # the preprocess stage has nothing of its own to do now
    code, errors = run(project, "preprocess", *ratio, "--set", "collect.preprocess=true", data="one")
    assert (code, "done already" in errors) == (0, True)


def test_dry_run_writes_nothing(project):
    code, errors = run(project, "collect", "--dry-run")
    assert code == 0
    assert "would work on 6 recordings" in errors
    assert not (project / "data" / "runs").exists()


def test_limit_is_a_run_of_its_own(project, collected):
    folder = collected("--limit", "2")
    assert [row["id"] for row in read_table(folder / "metadata.csv")] == ["clip0000", "clip0001"]
    assert run(project, "collect")[0] == 0
    assert len(list((project / "data" / "runs" / "collect").glob("[!.]*"))) == 2


def test_input_and_output_by_hand(project):
    audio_folder(project / "others", clips=3)
    flags = ("--input", str(project / "others"), "--output", str(project / "mine"))
    assert run(project, "collect", *flags)[0] == 0
    assert len(read_table(project / "mine" / "metadata.csv")) == 3
    assert run(project, "collect", *flags)[0] == 73
    assert run(project, "preprocess", "--input", str(project / "mine"), "--output", str(project / "clips"))[0] == 0
    assert len(read_table(project / "clips" / "metadata.csv")) == 3
    code, errors = run(project, "preprocess", "--input", str(project / "others"))
    assert code == 65
    assert "is no run of voxmake" in errors


def test_a_damaged_input_is_refused(project, collected):
    folder = collected()
    clip = folder / "audio" / "clip0002.wav"
    clip.chmod(0o644)
    clip.write_bytes(clip.read_bytes()[:-2])
    code, errors = run(project, "preprocess")
    assert code == 65
    assert "clip0002.wav" in errors
    assert "the manifest says" in errors


def test_an_empty_list_of_sources_says_what_to_write(project, collected):
    assert "collect.sources: is empty" in collected("--set", "collect.sources=[]", expect=2)


def test_secrets_do_not_show(project):
    code, errors = run(
        project, "collect", "--set", "collect.sources=[{format: gitlab, project: a/b, token: glpat-CANARY}]"
    )
    assert code == 2
    assert "GITLAB_TOKEN" in errors
    assert "CANARY" not in errors


def test_a_bug_in_the_script_is_one_line(project, monkeypatch, capsys):
    monkeypatch.setattr(collect, "read_listing", lambda config: 1 / 0)
    assert collect.main(["--config", str(project / "x.yaml")]) == 70
    assert "internal error: ZeroDivisionError" in capsys.readouterr().err


IDS = [
    "a",
    "A b",
    "größe",
    "gröse",
    "con",
    "CON ",
    "a/b",
    "../../etc/passwd",
    "-y",
    "x" * 250,
    "日本",
    "a-0123abcd",
    "👋",
    "a\u200db",
    "a_b",
]


def test_file_names_are_ours():
    stems = [collect.file_stem(unicodedata.normalize("NFC", item_id)) for item_id in IDS]
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,95}", stem) for stem in stems)
    assert len({stem.lower() for stem in stems}) == len(stems)
    assert stems[0] == "a"
    assert "con" not in stems


@pytest.mark.parametrize(
    ("folder", "count"),
    [
        ("ljspeech_en", 8),
        ("nathalie_nl", 40),
        ("kathleen_en", 100),
        ("kerstin_de", 150),
        ("languages_mp3", 23),
        ("digits_fsdd", 180),
    ],
)
def test_real_recordings_go_through_both_stages_with_nothing_rejected(project, real, folder, count):
    flags = ("--set", f"collect.sources=[{{path: {real / folder}}}]", "--set", "execution.max_rejected_ratio=0")
    for stage in ("collect", "preprocess"):
        code, errors = run(project, stage, *flags)
        assert code == 0, errors
        [made] = (project / "data" / "runs" / stage).glob("[!.]*")
        rows = read_table(made / "metadata.csv")
        assert len(rows) == count
        assert read_table(made / "rejected.csv") == []
    for row in rows:
        assert row["peak_guard"] == "True" or float(row["level_after_db"]) == pytest.approx(-20, abs=0.1)
        assert float(row["duration_s"]) == pytest.approx(float(row["source_duration_s"]), abs=1 / 16000 + 1e-6)


def test_broken_recordings_are_rejected_one_by_one(project, real):
    shutil.copytree(real / "broken", project / "recordings" / "broken")
    with (project / "recordings" / "metadata.csv").open("a") as metadata:
        metadata.writelines(f"broken/{name}.wav,A broken one.\n" for name in ("awful", "bad", "evil", "null"))
    reasons = {}
    for stage in ("collect", "preprocess"):
        code, errors = run(project, stage, "--set", "execution.max_rejected_ratio=0.5")
        assert code == 0, errors
        [made] = (project / "data" / "runs" / stage).glob("[!.]*")
        reasons |= {row["id"].rpartition("/")[2]: row["reason"] for row in read_table(made / "rejected.csv")}
    assert reasons == {"awful": "bad_sample_rate", "bad": "bad_header", "evil": "bad_header", "null": "no_samples"}
    shutil.rmtree(project / "data", ignore_errors=True)
    assert [run(project, stage, data="fresh")[0] for stage in ("collect", "preprocess")] == [0, 65]


def test_config_files_are_valid():
    from voxmake.run.stage import load_config

    for path in sorted((ROOT / "configs").glob("*.yaml")):
        load_config(path, [])
