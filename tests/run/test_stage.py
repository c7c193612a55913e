"""The hash of a run: what decides the result is in it, and nothing else."""

import json
import os

import pytest
from conftest import audio_folder

import collect
from voxmake.errors import ConfigError
from voxmake.run.digest import tree_digest
from voxmake.run.stage import STAGES, hash12, load_config, load_stage, plan_stage


def plan(project, *assignments, stage="preprocess", limit=None):
    config = load_config(project / "x.yaml", list(assignments))
    return plan_stage(stage, config, {}, limit)


def test_result_keys_change_the_hash_and_execution_keys_do_not(project):
    first = plan(project)
    for same in (
        "execution.workers=7",
        "execution.progress=none",
        "execution.max_rejected_ratio=1",
        "project=other",
        "seed=1",
    ):
        assert plan(project, same).hash12 == first.hash12
    for other in ("audio.target_db=-23", "audio.file_format=flac", "audio.max_cpu_s=1"):
        changed = plan(project, other)
        assert changed.hash12 != first.hash12
        assert changed.inputs["collect"].hash12 == first.inputs["collect"].hash12
    assert plan(project, "audio.target_db=-20").hash12 == first.hash12  # -20 is -20.0
    assert plan(project, limit=3).hash12 != first.hash12


def test_the_place_of_the_data_is_not_in_the_hash(project):
    first = plan(project)
    (project / "recordings").rename(project / "elsewhere")
    moved = f"collect.sources=[{{path: {project / 'elsewhere'}}}]"
    assert plan(project, moved).hash12 == first.hash12


@pytest.mark.parametrize("what", ["metadata", "audio", "new file"])
def test_the_content_of_the_data_is_in_the_hash(project, what):
    first = plan(project)
    folder = project / "recordings"
    if what == "metadata":
        (folder / "metadata.csv").write_text((folder / "metadata.csv").read_text().replace("number 3", "number three"))
    elif what == "audio":
        clip = folder / "audio" / "clip0001.wav"
        times = clip.stat()
        clip.write_bytes(clip.read_bytes()[::-1])
        os.utime(clip, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a sloppy copy would leave it
    else:
        (folder / "audio" / "more.wav").write_bytes(b"x")
    assert plan(project).hash12 != first.hash12


def test_hash_is_of_canonical_json():
    assert hash12({"b": 1, "a": [1.0, "ü"]}) == hash12(json.loads('{"a": [1.0, "ü"], "b": 1}'))
    assert hash12({"a": 1}) != hash12({"a": "1"})


def test_one_pass_mode_serves_the_preprocess_stage(project):
    planned = plan(project, "collect.preprocess=true")
    assert planned.stage.name == "collect"
    assert planned.hash12 != plan(project, "collect.preprocess=true", "audio.target_db=-23").hash12


def test_digests_are_remembered_only_while_the_file_is_the_same(tmp_path):
    folder = audio_folder(tmp_path / "a", clips=3)
    files = sorted(folder.rglob("*.*"))
    cache = tmp_path / "cache" / "digests.sqlite"
    first = tree_digest(files, folder, cache)
    assert tree_digest(reversed(files), folder, cache) == first == tree_digest(files, folder)
    cache.write_bytes(b"no database at all, not even close to one")
    assert tree_digest(files, folder, cache) == first  # a damaged cache costs time, not correctness


def test_every_stage_is_named_like_its_script():
    for name in STAGES:
        stage = load_stage(name)
        assert stage.name == name
        assert all(STAGES.index(upstream) < STAGES.index(name) for upstream in stage.after)
    with pytest.raises(ConfigError, match="no stage 'nonsense'"):
        load_stage("nonsense")


def test_unknown_stage_in_the_config(project):
    with pytest.raises(ConfigError, match=r"stages: no stage 'colect'"):
        load_config(project / "x.yaml", ["stages=[colect]"])


def test_doc_of_every_script_says_how_to_run_it():
    assert "python scripts/collect.py --config" in collect.__doc__
