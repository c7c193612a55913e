"""Scores and classes, and that error rates are those of jiwer."""

import random

import jiwer
import pytest

from voxmake.asr.engines import Heard
from voxmake.asr.scoring import CLASSES, comparable, score, word_errors

TEXT = "For the twentieth time that evening the two men shook hands."


@pytest.mark.parametrize(
    ("heard", "kind"),
    [
        ("for the 20th time that evening the two men shook hands", "ok"),
        ("for the twentieth kind that evening the two men took hands", "ok"),
        ("that evening the two men shook hands", "cut_start"),
        ("mm that evening the two men shook hands", "cut_start"),
        ("for the twentieth time that evening the two", "cut_end"),
        ("for the twentieth evening the two men shook hands", "missing_words"),
        ("for the twentieth time that evening the two men shook hands and went away together", "extra_words"),
        ("so I said for the twentieth time that evening the two men shook hands", "extra_words"),
        ("the quick brown fox jumps over the lazy dog", "wrong_text"),
        ("for the the the the the the the the the the", "hallucination"),
        ("thanks for watching", "hallucination"),
        ("Субтитры сделал DimaTorzok", "hallucination"),
        ("never mind " * 20, "hallucination"),
        ("", "empty"),
        ("...", "empty"),
    ],
)
def test_classes(heard, kind):
    assert score(TEXT, Heard(heard), 4.0, "en", 0.8).kind == kind
    assert kind in CLASSES


def test_a_text_that_repeats_is_no_hallucination():
    text = "No no no no no no no, thanks for watching."
    assert score(text, Heard("no no no no no no no thanks for watching"), 4.0, "en", 0.8).kind == "ok"


def test_forty_characters_a_second_are_not_speech():
    assert score(TEXT, Heard("another thing entirely " * 3), 1.0, "en", 0.8).kind == "hallucination"
    assert score(TEXT, Heard("another thing entirely " * 2), 4.0, "en", 0.8).kind == "wrong_text"


def test_another_language():
    sounds_german = Heard(TEXT, "de", 0.93)
    assert score(TEXT, sounds_german, 4.0, "en_US", 0.8).kind == "wrong_language"
    assert score(TEXT, sounds_german, 4.0, "", 0.8).kind == "ok"  # nobody said which it should be
    assert score(TEXT, Heard(TEXT, "de", 0.5), 4.0, "en", 0.8).kind == "ok"  # it is not sure


def test_numbers():
    result = score("abcdefghij klm", Heard("bcdefghij klmno"), 2.0, "en", 0.8)
    assert result.similarity == pytest.approx(1 - 3 / 15, abs=1e-6)
    assert result.cer == pytest.approx(3 / 14, abs=1e-6)
    assert result.wer == 1.0
    assert (result.edge_start_cer, result.edge_end_cer) == (0.2, 0.2)
    assert result.chars_per_s == 7.5
    nothing = score("abcde", Heard(""), 2.0, "en", 0.8)
    assert (nothing.similarity, nothing.cer, nothing.wer, nothing.edge_start_cer) == (0, 1, 1, 1)
    assert score("", Heard("x"), 0.0, "", 0.8).wer == 1


@pytest.mark.parametrize(
    ("language", "text", "same"),
    [
        ("en", "It’s 3:30, isn't it?", "its three thirty, isnt it"),
        ("en_US", "Mr. X paid 1,200 dollars", "mr x paid one thousand two hundred DOLLARS!"),
        ("de", "Das kostet 21,5 Euro – „prima“", "das kostet einundzwanzig komma fünf euro prima"),
        ("de", "Straße", "strasse"),
        ("fr", "L'été : 3 jours", "lété trois jours"),
        ("ru", "Ёлка", "ёлка"),
        ("", "ﬁne １２", "fine 12"),
    ],
)
def test_both_sides_are_written_alike(language, text, same):
    assert comparable(text, language) == comparable(same, language)


def test_error_rates_are_those_of_jiwer():
    chosen = random.Random(1)
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    for _ in range(300):
        reference = chosen.choices(words, k=chosen.randint(1, 12))
        said = chosen.choices(words, k=chosen.randint(0, 12))
        assert word_errors(reference, said) == pytest.approx(jiwer.wer(" ".join(reference), " ".join(said)))
        if said:
            result = score(" ".join(reference), Heard(" ".join(said)), 5.0, "en", 0.8)
            assert result.cer == pytest.approx(jiwer.cer(" ".join(reference), " ".join(said)), abs=1e-6)
            assert result.wer == pytest.approx(jiwer.wer(" ".join(reference), " ".join(said)), abs=1e-6)
