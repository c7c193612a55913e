"""Every clip is kept or rejected with one reason."""

import made_runs
import pytest

from voxmake.dataset.choosing import choose
from voxmake.dataset.spec import Dataset
from voxmake.review import Corrections

MANY = [made_runs.clip(number) for number in range(60)]
SLOW = "Too short a text for so much audio."


def reasons(*extra, corrections=None, clips=MANY, **keys):
    """Reason of each clip that is not kept, by id."""
    both = [*clips, *extra]
    speakers = {one["id"]: made_runs.NEAR | one for one in both if one["state"]}
    kept, refused = choose(both, speakers, corrections or Corrections(), Dataset(**keys))
    assert sorted([c.row["id"] for c in kept] + [r.row["id"] for r in refused]) == sorted(c["id"] for c in both)
    return {one.row["id"]: (one.reason, one.detail) for one in refused}


def one(**facts):
    return made_runs.clip(1000, id="x", **facts)


@pytest.mark.parametrize(
    ("clip", "keys", "reason", "detail"),
    [
        (one(state="noise", speaker=""), {}, "no_speaker", "noise"),
        (one(state=""), {}, "no_speaker", "diarize does not list it"),
        (one(state="noise", speaker="", reviewed="yes"), {}, "rejected_by_review", "its speaker was rejected"),
        (one(state="outlier"), {}, "speaker_outlier", "ann, distance 0.2, next ben"),
        (one(state="uncertain"), {"speaker_states": ["definite"]}, "speaker_uncertain", "ann, distance 0.2, next ben"),
        (one(text=""), {}, "no_transcript", ""),
        (one(text=" "), {}, "empty_text", ""),
        (one(text="\u00ad"), {}, "empty_text", "0 characters"),
        (one(text="Hi."), {"min_text_chars": 4}, "text_too_short", "3 characters"),
        (one(text="ab " * 200), {}, "text_too_long", "599 characters, at most 500 are allowed"),
        (one(text="Größe ☺ ok"), {"alphabet": "abcdefghijklmnopqrstuvwxyz,.'"}, "text_alphabet", "ß ö ☺"),
        (one(text="a\u202eb"), {}, "text_bidi_override", "the transcript holds U+202E"),
        (one(duration_s=0.3), {}, "shorter_than_segment", "0.300 s, the segment is 0.3716 s"),
        (one(duration_s=0.4), {}, "too_short", "0.400 s, dataset.min_duration_s is 0.5"),
        (one(duration_s=20.5), {}, "too_long", "20.500 s, dataset.max_duration_s is 20"),
        (one(text="a" * 62, duration_s=2.0), {}, "chars_per_s_impossible", "31.0 characters/s"),
        (one(text="Yes.", duration_s=8.0), {}, "chars_per_s_impossible", "0.5 characters/s"),
        (one(speaker="cleo"), {}, "speaker_too_small", "cleo has 1 usable clips"),
    ],
)
def test_reasons_of_single_clips(clip, keys, reason, detail):

    assert reasons(clip, **keys) == {"x": (reason, detail)}


def test_a_good_set_is_kept_whole():
    assert reasons() == {}


def test_other_speakers_are_left_out():
    found = reasons(speakers=["ann"])
    assert len(found) == 30
    assert {reason for reason, _ in found.values()} == {"speaker_not_chosen"}


def test_a_rate_far_from_the_speakers_others():
    slow = one(text=SLOW, duration_s=9.0)
    [(reason, detail)] = reasons(slow).values()
    assert reason == "chars_per_s_outlier"
    assert detail.startswith("3.9 characters/s, ann's range is 1")
    assert reasons(slow, outlier_iqr=None) == {}
    assert reasons(slow, outlier_min_clips=32) == {}
    # the other speaker is that slow: no outlier there
    ben = [made_runs.clip(n, speaker="ben", duration_s=8.0 + n % 5) for n in range(60)]
    assert reasons(slow | {"speaker": "ben"}, clips=ben) == {}


def test_what_people_said_wins():
    outlier, slow = one(state="outlier"), one(text=SLOW, duration_s=9.0)
    good = Corrections(good={"x"})
    assert reasons(outlier, corrections=good) == reasons(slow, corrections=good) == {}
    assert reasons(one(duration_s=0.3), corrections=good)["x"][0] == "shorter_than_segment"
    heard = Corrections(rejected={"x": "door slams"})
    assert reasons(one(), corrections=heard) == {"x": ("rejected_by_review", "door slams")}
    written = Corrections(texts={"x": "Now it has one."})
    assert reasons(one(text="", duration_s=1.1), corrections=written) == {}


def test_small_speakers_count_what_is_left_of_them():
    clips = [made_runs.clip(n, id=f"cleo{n}", speaker="cleo", duration_s=0.3 if n == 4 else 3.0) for n in range(10)]
    found = reasons(*clips)
    assert len(found) == 10
    assert found["cleo3"] == ("speaker_too_small", "cleo has 9 usable clips")
    assert list(reasons(*clips, min_clips_per_speaker=9)) == ["cleo4"]


@pytest.mark.parametrize(
    "keys",
    [
        {"min_duration_s": 3, "max_duration_s": 2},
        {"validation_ratio": 0.6, "test_ratio": 0.4},
        {"speaker_states": ["uncertain"]},
        {"exports": ["tfrecord"]},
    ],
)
def test_config_that_makes_no_sense(keys):
    with pytest.raises(ValueError):
        Dataset(**keys)
