"""Words, stems and sentences of English text: what every rule of calibration counts with."""

from __future__ import annotations

import re
from functools import cache

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
# A full stop after these ends no sentence.
_SHORT = re.compile(r"\b(?:e\.g|i\.e|et al|fig|figs|eq|vs|cf|approx|no|dr|mr|mrs|ms|prof|st)\.$", re.IGNORECASE)
_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+(?=[\"'“‘(]?[A-Z0-9])")


def words(text: str) -> list[str]:
    """Lower-case words, in order."""
    return _WORD.findall(text.lower().replace("’", "'"))


def sentences(text: str) -> list[str]:
    """Sentences in order, white space joined; a line break alone ends none, an empty line does."""
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        begin = True  # the first piece of a paragraph never joins the one before
        for piece in _END.split(" ".join(paragraph.split())):
            if found and not begin and _SHORT.search(found[-1]):
                found[-1] = f"{found[-1]} {piece}"
            elif piece:
                found.append(piece)
            begin = False
    return found


@cache
def stem(word: str) -> str:
    """Porter's stem (Porter 1980), as rouge-score uses it."""
    return _stemmer().stem(word.removesuffix("'s"))


@cache
def _stemmer():
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


@cache
def stopwords() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return ENGLISH_STOP_WORDS | {"don't", "can't", "doesn't", "isn't", "it's", "didn't", "won't", "that's"}


def content(text: str) -> list[str]:
    """Stems of the words that carry meaning."""
    return [stem(word) for word in words(text) if word not in stopwords() and len(word) > 1]
