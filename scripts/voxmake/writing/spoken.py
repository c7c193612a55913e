"""Times and numbers in words, both ways: what a host has to say, and what a text says.

The words come from num2words; finding them in a text is a longest match over its output, so the two
can't disagree.
"""

from __future__ import annotations

import re
from functools import cache

_PARTS = (("morning", 5, 12), ("afternoon", 12, 18), ("evening", 18, 22), ("night", 22, 29))
_TEENS_AND_ZERO = {"oh": 0, "o": 0, "zero": 0}
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+(?:[.:]\d+)?")


def words(number: int) -> str:
    """42 -> "forty-two"; -3 -> "minus three"."""
    from num2words import num2words

    return num2words(number)


def year_words(year: int) -> str:
    """1951 -> "nineteen fifty-one"."""
    from num2words import num2words

    return num2words(year, to="year")


def clock_words(clock: str) -> str:
    """ "07:30" -> "half past seven", "07:05" -> "five past seven", "00:00" -> "midnight"."""
    hour, minute = (int(part) for part in clock.split(":"))
    if minute == 0:
        return {0: "midnight", 12: "noon"}.get(hour, f"{words(_twelve(hour))} o'clock")
    if minute == 30:
        return f"half past {words(_twelve(hour))}"
    if minute in (15, 45):
        return f"a quarter past {words(_twelve(hour))}" if minute == 15 else f"a quarter to {words(_twelve(hour + 1))}"
    if minute % 5 == 0:
        past = minute < 30
        return (
            f"{words(minute if past else 60 - minute)} {'past' if past else 'to'} {words(_twelve(hour + (not past)))}"
        )
    return f"{words(_twelve(hour))} {'oh ' if minute < 10 else ''}{words(minute)}"


def _twelve(hour: int) -> int:
    return (hour - 1) % 12 + 1


def day_parts(clock: str) -> set[str]:
    """The parts of the day that may be said at a time: one, and its neighbour within half an hour."""
    hour, minute = (int(part) for part in clock.split(":"))
    found = set()
    for name, begin, end in _PARTS:
        for shift_min in (-30, 0, 30):
            at = ((hour * 60 + minute + shift_min) / 60) % 24
            found |= {name} if begin <= at < end or begin <= at + 24 < end else set()
    return found


@cache
def _vocabulary() -> dict[tuple[str, ...], int]:
    """Words -> number for -60 to 199 and the years 1000 to 2100, as tuples of words."""
    table: dict[tuple[str, ...], int] = {}
    for year in range(1000, 2101):
        table[tuple(_tokens(year_words(year)))] = year
        plain = words(year)  # two thousand and six
        table.setdefault(tuple(_tokens(plain)), year)
        table.setdefault(tuple(word for word in _tokens(plain) if word != "and"), year)
    for number in range(200):
        tokens = tuple(_tokens(words(number)))
        for one in {tokens, tuple(word for word in tokens if word != "and")}:
            table[one] = number
            if 0 < number <= 60:
                table[("minus", *one)] = -number
    return table


def _tokens(text: str) -> list[str]:
    return _WORD.findall(text.lower().replace("-", " ").replace("’", "'"))


def numbers(text: str) -> list[tuple[float, str]]:
    """Every number in a text, in words or digits, with the word behind it.

    "it is minus three degrees in 1951" -> [(-3, "degrees"), (1951, "")]. "one" and "second" in other
    senses are what makes this a heuristic: a lone "one" is no number here.
    """
    table, tokens = _vocabulary(), _tokens(re.sub(r"(?<!\w)[-−](?=\d)", "minus ", text))
    longest = max(map(len, table))
    found, at = [], 0
    while at < len(tokens):
        if re.fullmatch(r"\d+(\.\d+)?", tokens[at]):
            value = float(tokens[at]) * (-1 if at and tokens[at - 1] == "minus" else 1)
            found.append((value, tokens[at + 1] if at + 1 < len(tokens) else ""))
            at += 1
            continue
        length = next((n for n in range(longest, 0, -1) if tuple(tokens[at : at + n]) in table), 0)
        if length == 0:
            at += 1
            continue
        after = tokens[at + length] if at + length < len(tokens) else ""
        if tokens[at : at + length] != ["one"] or after.startswith("degree"):
            found.append((float(table[tuple(tokens[at : at + length])]), after))
        at += length
    return found


@cache
def _clock_patterns() -> list[tuple[re.Pattern, str]]:
    small = {words(number).replace("-", " "): number for number in range(60)}
    hour = "|".join(sorted((words(number) for number in range(1, 13)), key=len, reverse=True))
    minute = "|".join(sorted((name for name in small if name != "zero"), key=len, reverse=True))
    minute_behind = "|".join(
        sorted((name for name, number in small.items() if number >= 10), key=len, reverse=True)
    ) + "|(?:oh|o|zero) (?:" + "|".join(words(number) for number in range(1, 10)) + ")"  # fmt: skip
    return [
        (re.compile(rf"\b(?P<m>a quarter|quarter|half|(?:{minute})(?: minutes?)?) (?P<way>past|after|to|till|before) (?P<h>{hour}|midnight|noon)\b"), "relative"),
        (re.compile(rf"\b(?P<h>{hour}) o'clock\b"), "whole"),
        (re.compile(rf"\b(?P<h>{hour}) (?P<m>{minute_behind})\b"), "plain"),
        (re.compile(r"\b(?P<h>\d{1,2}):(?P<m>\d\d)\b"), "digits"),
        (re.compile(rf"\b(?P<h>{hour}|\d{{1,2}}) ?(?:a ?m|p ?m|in the (?:morning|afternoon|evening)|at night)\b"), "whole"),
        (re.compile(r"\b(?P<h>midnight|noon)\b"), "whole"),
    ]  # fmt: skip


def clock_times(text: str) -> list[int]:
    """Every time of day that a text says, as minutes past twelve, 0 to 719: a.m. and p.m. are one.

    "half past seven", "seven thirty", "a quarter to eight", "ten o'clock", "7:30", "noon".
    """
    plain = re.sub(r"\b([ap])\.\s?m\b\.?", r"\1 m", text.lower().replace("’", "'")).replace("-", " ")
    plain = re.sub(r"\s+", " ", plain)
    found: list[tuple[int, int]] = []
    for pattern, kind in _clock_patterns():
        for match in pattern.finditer(plain):
            hour = _hour(match["h"])
            if kind == "relative":
                minutes = _minutes(match["m"])
                total = hour * 60 + (minutes if match["way"] in ("past", "after") else -minutes)
            else:
                total = hour * 60 + (_minutes(match["m"]) if kind in ("plain", "digits") else 0)
            found.append((match.start(), total % 720))
        plain = pattern.sub(lambda match: "#" * len(match[0]), plain)
    return [minute for _, minute in sorted(found)]


def _hour(text: str) -> int:
    if text in ("midnight", "noon"):
        return 0
    return int(text) if text.isdigit() else next(n for n in range(1, 13) if words(n) == text)


def _minutes(text: str) -> int:
    if text.isdigit():
        return int(text)
    text = text.removesuffix(" minutes").removesuffix(" minute").strip()
    if text == "half":
        return 30
    if text.endswith("quarter"):
        return 15
    parts = text.split()
    if parts[0] in _TEENS_AND_ZERO:
        parts = parts[1:]
    return next(n for n in range(60) if words(n).replace("-", " ") == " ".join(parts))
