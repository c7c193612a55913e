"""Times and numbers in words: every minute of the day comes back from its own words."""

import pytest

from voxmake.writing.material import slug
from voxmake.writing.spoken import clock_times, clock_words, day_parts, numbers, words


def test_every_minute_comes_back():
    for hour in range(24):
        for minute in range(60):
            clock = f"{hour:02}:{minute:02}"
            assert clock_times(f"Well, it is {clock_words(clock)}, my friend.") == [(hour * 60 + minute) % 720], clock


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("seven thirty-five in the evening", [455]),
        ("It's 7 a.m. now", [420]),
        ("ten minutes past four", [250]),
        ("12:05", [5]),
        ("ten o'clock, or a quarter to eleven", [600, 645]),
        ("twenty of us, at the seven seas", []),
    ],
)
def test_times_in_a_text(text, minutes):
    assert clock_times(text) == minutes


def test_numbers():
    for number in range(-60, 200):
        assert numbers(f"it is {words(number)} degrees") == [(number, "degrees")], number
    assert [value for value, _ in numbers("in nineteen fifty-one, -4 degrees and 2007")] == [1951, -4, 2007]
    assert numbers("one of us") == []


def test_day_parts():
    assert day_parts("07:00") == {"morning"}
    assert day_parts("12:00") == {"morning", "afternoon"}
    assert day_parts("02:00") == {"night"}


def test_slugs_are_plain_and_tell_apart():
    assert slug("Ada Finch", "The Tailor's Daughter") == "ada-finch-the-tailors-daughter"
    assert slug("Björk", "Jóga") == "bjork-joga"
    names = {slug("日本", "歌"), slug("日本", "唄"), slug("../..", "etc/passwd"), slug("A" * 300, "b"), slug("", "?")}
    assert len(names) == 5
    assert all(name and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in names)
