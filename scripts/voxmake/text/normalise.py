"""One way to write what is spoken: NFC, one kind of quote, dash and space, numbers as words.

Nothing is deleted that is spoken; case and punctuation stay. To teach it a language, add one entry to
`LANGUAGES`. A language that is not listed gets its whole numbers spelled if num2words knows it; of any other
one the digits stay, and `has_digits` tells of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache

# Zero-width space, word joiner, byte order mark, soft hyphen: invisible and never spoken. The zero-width joiners
# U+200C and U+200D stay: Persian and Indic spelling needs them.
_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\u200b\u2060\ufeff\u00ad"),
        **dict.fromkeys("‘’‚‛′´`", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‐‑‒−", "-"),
        "…": "...",
        "|": " ",  # the separator of LJSpeech's and Piper's tables, which know no quoting
    }
)
_THOUSANDS_SPACE = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_SPACES = re.compile(r"\s+")
_RANGE = re.compile(r"(?<=\d)\s*[–—]\s*(?=\d)")
_LONG_DASH = re.compile(r"\s*[–—―]+\s*")
_NUMBER = re.compile(r"(?:(?<!\S)-)?\d+(?:[.,:]\d+)*")
_MAX_DIGITS = 15  # a longer one is a code or a telephone number: it is read digit by digit
_MAX_DIGITS_UNLISTED = 6  # num2words 0.5.14 takes minutes for eight digits of Amharic
_YEAR_FIRST, _YEAR_LAST = 1100, 2099  # four digits without a separator: read as a year where that differs


@dataclass(frozen=True)
class Language:
    """What num2words does not know, or gets wrong, of one language.

    Attributes:
        point: the word at the decimal separator; digits behind it are read one by one.
        decimal: the decimal separator; the other one of "." and "," groups thousands.
        years: num2words' `year` differs from a plain number and is right.
        symbols: signs and their words.
        hook: what else has to happen, before numbers are spelled.
    """

    point: str
    minus: str
    decimal: str = ","
    years: bool = False
    symbols: dict[str, str] = field(default_factory=dict)
    hook: Callable[[str], str] = str


def _english(text: str) -> str:
    return re.sub(
        r"(?<![\w.,])(\d{1,6})(?:st|nd|rd|th)\b", lambda found: _words(int(found[1]), "en", "ordinal") or found[0], text
    )


def _french(text: str) -> str:
    """Its spaces inside quotes and before ! ? : ; are typography."""
    return re.sub(r"\s+(?=[!?;:»])|(?<=«)\s+", "", text)


LANGUAGES = {
    "en": Language("point", "minus", ".", True, {"%": "percent", "&": "and"}, _english),
    "de": Language("Komma", "minus", ",", True, {"%": "Prozent", "&": "und"}),
    "nl": Language("komma", "min", ",", True, {"%": "procent", "&": "en"}),
    "fr": Language("virgule", "moins", ",", False, {"%": "pour cent", "&": "et"}, _french),
    "es": Language("coma", "menos", ",", False, {"%": "por ciento", "&": "y"}),
    "it": Language("virgola", "meno", ",", False, {"%": "per cento", "&": "e"}),
    "pt": Language("vírgula", "menos", ",", False, {"%": "por cento", "&": "e"}),
}


def language_code(name: str) -> str:
    """The ISO 639-1 part of a language tag: en_US, en-us and EN give en."""
    return re.split(r"[-_]", name.strip().lower(), maxsplit=1)[0]


def normalise(text: str, language: str) -> str:
    """The text as it is trained on.

    Args:
        text: one line or several.
        language: a language tag; "" if it is not known.
    """
    code = language_code(language)
    known = LANGUAGES.get(code)
    text = unicodedata.normalize("NFC", text)
    text = _THOUSANDS_SPACE.sub("", text)
    if known is not None:
        text = known.hook(text)
        for sign, word in known.symbols.items():
            text = text.replace(sign, f" {word} ")
    text = text.translate(_CHARACTERS)
    text = _LONG_DASH.sub(" - ", _RANGE.sub("-", text))
    if has_digits(text):
        text = _NUMBER.sub(lambda found: _spelled(found, code), text)
    return _SPACES.sub(" ", text).strip()


def has_digits(text: str) -> bool:
    return any(character.isdigit() for character in text)


def _spelled(found: re.Match, code: str) -> str:
    """A number in words, with a space where it touched a letter; as it was if nobody knows the words."""
    words = _number(found[0], code)
    if words is None:
        return found[0]
    before, after = found.string[: found.start()][-1:], found.string[found.end() :][:1]
    return " " * before.isalpha() + words + " " * after.isalpha()


@lru_cache(maxsize=10_000)
def _number(token: str, code: str) -> str | None:
    known = LANGUAGES.get(code)
    if known is None:
        return _whole(token, code) if token.isdigit() and len(token) <= _MAX_DIGITS_UNLISTED else None
    if token.startswith("-"):
        words = _number(token[1:], code)
        return words and f"{known.minus} {words}"
    grouping = "," if known.decimal == "." else "."
    whole, separator, fraction = token.partition(known.decimal)
    if re.fullmatch(rf"\d{{1,3}}(?:{re.escape(grouping)}\d{{3}})+", whole):
        whole = whole.replace(grouping, "")
    if whole.isdigit() and (fraction.isdigit() or not separator):
        if not separator:
            return _whole(whole, code, years=known.years and whole == token)
        return _joined([_whole(whole, code), known.point, _digits(fraction, code)])
    # a date, a time, a version: its numbers one after the other
    return _joined([_whole(part, code, years=known.years) for part in re.split(r"[.,:]", token)])


def _whole(digits: str, code: str, years: bool = False) -> str | None:
    if len(digits) > _MAX_DIGITS or (len(digits) > 1 and int(digits[0]) == 0):
        return _digits(digits, code)
    number = int(digits)
    return _words(number, code, "year" if years and _YEAR_FIRST <= number <= _YEAR_LAST else "cardinal")


def _digits(digits: str, code: str) -> str | None:
    return _joined([_words(int(digit), code, "cardinal") for digit in digits])


def _joined(parts: list[str | None]) -> str | None:
    return None if None in parts else " ".join(parts)


def _words(number: int, code: str, kind: str) -> str | None:
    """What num2words says, without the commas that would be spoken as pauses."""
    if code not in _spoken_languages():
        return None
    from num2words import num2words

    try:
        return num2words(number, lang=code, to=kind).replace(",", "")
    except (TypeError, OverflowError):  # a number beyond the words it knows, in a few languages
        return None


@cache
def _spoken_languages() -> frozenset[str]:
    from num2words import CONVERTER_CLASSES

    return frozenset(CONVERTER_CLASSES)
