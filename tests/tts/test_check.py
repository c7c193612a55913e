"""The check of a take, on real speech of espeak: what is cut, added or wrong is found, by pocketsphinx's ears."""

import numpy as np
import pytest

from voxmake.asr import engines
from voxmake.asr.engines import Heard
from voxmake.errors import Failure
from voxmake.tts.check import ends_abruptly, faults, listenable, tolerance
from voxmake.tts.engine import load
from voxmake.tts.pieces import trimmed
from voxmake.tts.spec import Tts

TEXT = "Good evening, friend. It is half past seven in the evening."
JUNK = "Somebody is sweeping a step outside the house."


@pytest.fixture(scope="module")
def voice():
    return load("espeak", None, 1.0)


@pytest.fixture(scope="module")
def hear():
    recogniser = engines.load("pocketsphinx", None, 1, "float32")
    limits = tolerance(Tts(), "pocketsphinx")

    def hear(samples, rate_hz, text=TEXT):
        [heard] = recogniser.recognise([listenable(samples, rate_hz)], "en")
        return faults(text, heard, len(samples) / rate_hz, ends_abruptly(samples, rate_hz), "en", limits)

    return hear


def say(voice, text, take=1):
    voice.begin(None, 0, take)
    return voice.speak(text)


def test_a_good_take_and_bad_ones(voice, hear):
    good, rate = say(voice, TEXT), voice.rate_hz
    wrong, score = hear(good, rate)
    assert wrong == [] and score.similarity > 0.5
    assert "cut_off" in hear(good[: int(0.7 * rate)], rate)[0]
    assert "tail_junk" in hear(np.concatenate([good, say(voice, JUNK)]), rate)[0]
    assert "wrong_words" in hear(say(voice, JUNK), rate)[0]


def test_length_and_words_by_a_good_recogniser():
    limits = tolerance(Tts(), "whisper")

    def found(said, duration_s=5.0, abrupt=False):
        return faults(TEXT, Heard(said), duration_s, abrupt, "en", limits)[0]

    assert found(TEXT) == []
    assert found(TEXT, abrupt=True) == ["cut_off"]
    assert found("Good evening, friend. It is half past") == ["wrong_words", "cut_off"]
    assert found(f"{TEXT} {JUNK}") == ["wrong_words", "tail_junk"]
    assert found(f"{TEXT} um and um so the") == ["wrong_words", "tail_junk"]
    assert found(JUNK) == ["wrong_words"]
    assert found(TEXT, duration_s=14.0) == ["too_long"]
    assert found(TEXT, duration_s=1.0) == ["too_short"]
    assert found("") == ["wrong_words"]


def test_the_config_decides_the_limits():
    limits = tolerance(Tts(max_wer=0.1, min_similarity=0.95), "pocketsphinx")
    assert (limits.max_wer, limits.min_similarity, limits.words_count) == (0.1, 0.95, False)


def test_espeak_speaks_the_same_again_and_another_take_slower(voice):
    first = say(voice, TEXT)
    assert np.array_equal(first, say(voice, TEXT))
    assert len(say(voice, TEXT, take=2)) > len(first)
    assert not ends_abruptly(first, voice.rate_hz)
    with pytest.raises(Failure, match="espeak knows no nobody"):
        voice.begin("nobody", 0, 1)


def test_nothing_but_silence_is_listenable():
    assert np.isfinite(listenable(np.zeros(100, np.float32), 22050)).all()
    assert len(trimmed(np.zeros(100, np.float32), 22050)) == 0
