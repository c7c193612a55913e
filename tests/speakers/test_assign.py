"""Corrections applied to clusters, and what the distances say of a clip."""

import numpy as np
import pytest

from voxmake.errors import BadInput
from voxmake.review import COLUMNS, Review, read_corrections
from voxmake.run.config import Section
from voxmake.speakers.assign import correct, measure, name_clusters
from voxmake.speakers.embed import Distances

BOUNDS = Distances(0.32, 0.20, 0.28)


class Config(Section):
    review: Review


def speakers():
    """Two voices of six clips; the last clip of the first is far off, the last of the second nearer to the first."""
    rng = np.random.default_rng(0)
    base = np.eye(8)
    rows = [base[0] + 0.05 * rng.standard_normal(8) for _ in range(5)] + [base[0] + 1.2 * base[3]]
    rows += [base[1] + 0.05 * rng.standard_normal(8) for _ in range(5)] + [base[0] * 0.9 + base[1] * 0.5]
    vectors = np.stack(rows) / np.linalg.norm(rows, axis=1, keepdims=True)
    ids = [f"c{number:02}" for number in range(12)]
    return name_clusters(ids, vectors.astype(np.float32), np.repeat([0, 1], 6))


def corrections(tmp_path, *lines):
    path = tmp_path / "corrections.csv"
    path.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
    return read_corrections(Config(review=Review(corrections=str(path))))


def names(found):
    return [clip.name for clip in found.clips]


def test_zones():
    found = speakers()
    measure(found, BOUNDS)
    states = [clip.state for clip in found.clips]
    assert states[:5] == ["definite"] * 5
    assert states[5] == "outlier"
    assert found.clips[11].nearest_distance < found.clips[11].distance
    assert states[11] in ("uncertain", "outlier")


def test_rename_merge_move_and_their_order(tmp_path):
    found = speakers()
    rows = ["speaker,S01,rename,Ada,", "speaker,S02,merge,Ada,", "clip,c03,speaker,Bob,", "clip,zz,speaker,Bob,"]
    correct(found, corrections(tmp_path, *rows))
    measure(found, BOUNDS)
    assert names(found)[3] == "Bob"
    assert set(names(found)) == {"Ada", "Bob"}
    assert found.clips[3].state == "definite"  # a person said so
    assert found.unknown == ["zz"]


def test_split_and_reject(tmp_path):
    found = speakers()
    correct(found, corrections(tmp_path, "speaker,S02,reject,,", "speaker,S01,split,2,"))
    measure(found, BOUNDS)
    assert names(found)[6:] == [""] * 6
    assert {clip.state for clip in found.clips[6:]} == {"noise"}
    assert sorted(set(names(found)[:6])) == ["S01a", "S01b"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("speaker,S09,rename,x,", "corrections.csv:2: no speaker S09; there are: S01, S02"),
        ("speaker,S01,merge,S09,", "no speaker S09 to merge S01 into"),
        ("speaker,S01,split,one,", "split needs a number of speakers"),
        ("clip,c01,louder,,", "action 'louder': must be one of good, reject, text, speaker"),
        ("clip,c01,text,,", "text needs a value"),
        ("song,c01,good,,", "target 'song': must be clip or speaker"),
        ("clip,c01,text,one, two", "needs 5 columns"),
        ("clip,,good,,", "has no id"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, line, told):
    if told.startswith("needs"):
        line += ",three"
    with pytest.raises(BadInput) as error:
        correct(speakers(), corrections(tmp_path, line))
    assert told in str(error.value)
    assert ":2:" in str(error.value)


def test_a_speaker_that_is_gone_is_not_named_again(tmp_path):
    with pytest.raises(BadInput, match="S01 is gone since line 2"):
        corrections(tmp_path, "speaker,S01,rename,Ada,", "speaker,S01,reject,,")


def test_the_last_word_on_a_clip_wins(tmp_path):
    found = corrections(tmp_path, "clip,a,reject,,noise", "clip,a,good,,", "clip,b,good,,", "clip,b,reject,,echo")
    assert found.good == {"a"}
    assert found.rejected == {"b": "echo"}


def test_a_file_that_is_not_there_or_not_ours(tmp_path):
    with pytest.raises(BadInput, match="is not there"):
        read_corrections(Config(review=Review(corrections=str(tmp_path / "none.csv"))))
    (tmp_path / "corrections.csv").write_text("id,verdict\na,bad\n")
    with pytest.raises(BadInput, match="first line must be target,id,action,value,note"):
        read_corrections(Config(review=Review(corrections=str(tmp_path / "corrections.csv"))))


def test_clips_of_a_rejected_speaker_are_no_noise_to_be_found_again(tmp_path):
    found = speakers()
    correct(found, corrections(tmp_path, "speaker,S02,reject,,the radio"))
    assert [clip.reviewed for clip in found.clips] == [False] * 6 + [True] * 6
