"""Texts as they are trained on: one kind of sign for one thing, and numbers as words."""

import pytest

from voxmake.text.normalise import has_digits, language_code, normalise


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cafe\u0301", "caf\u00e9"),
        ("“Wow,” she said — ‘no’…", "\"Wow,\" she said - 'no'..."),
        ("a\u00a0b\t c\nd ", "a b c d"),
        ("re\u00adcord\u200b", "record"),
        ("mi\u200cravam", "mi\u200cravam"),  # Persian spelling needs the joiner
        ("well‑known", "well-known"),
        ("a|b", "a b"),
    ],
)
def test_signs(text, wanted):
    assert normalise(text, "") == wanted
    assert normalise(wanted, "") == wanted


@pytest.mark.parametrize(
    ("language", "text", "wanted"),
    [
        ("en", "I have 21 cats.", "I have twenty-one cats."),
        ("en", "1,234 of 10,000,000", "one thousand two hundred and thirty-four of ten million"),
        ("en", "3.10 or -5%", "three point one zero or minus five percent"),
        ("en", "In 1984, at 10:30", "In nineteen eighty-four, at ten thirty"),
        ("en", "1914–1918", "nineteen fourteen-nineteen eighteen"),
        ("en", "the 21st, the 2nd", "the twenty-first, the second"),
        ("en", "agent 007, MP3", "agent zero zero seven, MP three"),
        ("en", "version 1.2.3", "version one two three"),
        ("en", "1,5", "one five"),  # not English for one and a half
        ("en_GB", "5", "five"),
        ("EN-us", "5", "five"),
        ("de", "1.234,5 Leute", "eintausendzweihundertvierunddreißig Komma fünf Leute"),
        ("de", "20 %", "zwanzig Prozent"),
        ("nl", "1984", "negentien honderd vierentachtig"),
        ("fr", "« Ça va ? » 3\u202f000", '"Ça va?" trois mille'),
        ("sv", "25", "tjugofem"),  # num2words knows it, LANGUAGES does not
        ("sv", "12,5", "12,5"),  # and so nobody knows how a fraction is said
        ("am", "99999999", "99999999"),  # num2words would take minutes
        ("am", "1984", "1984"),  # num2words fails
        ("xx", "12 apples", "12 apples"),
        ("", "12 apples", "12 apples"),
        ("en", "9" * 16, " ".join(["nine"] * 16)),
    ],
)
def test_numbers(language, text, wanted):
    assert normalise(text, language) == wanted
    assert has_digits(wanted) == any(c.isdigit() for c in wanted)


def test_codes():
    assert [language_code(tag) for tag in ("en", " EN_us", "pt-BR", "")] == ["en", "en", "pt", ""]
