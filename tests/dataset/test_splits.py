"""Splits: text-disjoint, stratified, and left alone by what is added."""

import random
from collections import Counter, defaultdict

import made_runs
import pytest

from voxmake.dataset.spec import Dataset
from voxmake.dataset.splits import assign_splits, text_key


def spoken(count, speakers=("ann", "ben", "cleo"), seed=0, first=0):
    chosen = random.Random(seed)
    return [(chosen.choice(speakers), text_key(made_runs.sentence(first + n))) for n in range(count)]


def test_every_speaker_gets_about_its_share():
    clips = spoken(3000)
    splits = assign_splits(clips, 42, Dataset(validation_ratio=0.1, test_ratio=0.05))
    shares = defaultdict(Counter)
    for speaker, key in clips:
        shares[speaker][splits[key]] += 1
    for counts in shares.values():
        assert counts["validation"] / counts.total() == pytest.approx(0.1, abs=0.03)
        assert counts["test"] / counts.total() == pytest.approx(0.05, abs=0.025)


@pytest.mark.parametrize("seed", range(20))
def test_added_clips_move_nothing_of_speakers_that_have_enough(seed):
    """Random sets, randomly grown, many times: no text of theirs ever changes its split."""
    chosen, spec = random.Random(seed), Dataset(test_ratio=0.05, min_validation_per_speaker=1)
    clips = spoken(400, seed=seed)
    before = assign_splits(clips, seed, spec)
    for step in range(1, 6):
        clips += spoken(chosen.randrange(1, 200), ("ann", "ben"), seed=step, first=1000 * step)
        chosen.shuffle(clips)
        after = assign_splits(clips, seed, spec)
        assert {key: after[key] for key in before} == before


@pytest.mark.parametrize("seed", range(20))
def test_a_small_speaker_moves_no_more_than_its_minimum(seed):
    spec = Dataset(validation_ratio=0.02, min_validation_per_speaker=2)
    clips = spoken(12, ("ann",), seed=seed)
    before = assign_splits(clips, seed, spec)
    after = assign_splits(clips + spoken(300, ("ann",), first=500), seed, spec)
    assert sum(after[key] != before[key] for key in before) <= 2


def test_small_speakers_have_their_minimum():
    clips = [("ann", key) for _, key in spoken(200)] + [("ben", key) for _, key in spoken(10, first=900)]
    for seed in range(30):
        splits = assign_splits(clips, seed, Dataset(min_validation_per_speaker=3))
        held_out = {key for speaker, key in clips if speaker == "ben" and splits[key] == "validation"}
        assert 3 <= len(held_out) <= 7


def test_the_minimum_leaves_half_to_train_on_and_none_without_validation():
    clips = spoken(4, ("ann",))
    assert Counter(assign_splits(clips, 1, Dataset(min_validation_per_speaker=9)).values())["train"] >= 1
    assert set(assign_splits(clips, 1, Dataset(validation_ratio=0)).values()) == {"train"}


def test_the_seed_decides_and_order_does_not():
    clips = spoken(500)
    splits = assign_splits(clips, 42, Dataset())
    assert assign_splits(clips[::-1], 42, Dataset()) == splits
    assert assign_splits(clips, 43, Dataset()) != splits


def test_texts_that_sound_alike_are_one():
    assert text_key("It's ten o'clock!") == text_key("its ten OCLOCK") == "its ten oclock"
    assert text_key("re-cord") != text_key("record")
    assert text_key("?!") == "?!"
