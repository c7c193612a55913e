"""What a rule of the deterministic auditor is made of: a script, a finding, and the table of all rules."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache


@dataclass(frozen=True)
class Finding:
    """One broken rule: its id, what is wrong in words a writer can use, and the words that prove it."""

    rule: str
    detail: str
    evidence: str = ""


@dataclass(frozen=True)
class Script:
    """A text and all that it is judged by.

    Attributes:
        item: of the plan: type, dj, facts, min_words, max_words.
        persona: its persona, as plain data.
        artists, titles, hosts: every name there is, so that a wrong one is known; hosts without this one.
        words_per_s: rate that the runway was planned with.
    """

    text: str
    item: dict
    persona: dict
    artists: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    words_per_s: float = 2.5
    max_lyric_words: int = 6

    @cached_property
    def plain(self) -> str:
        return plain(self.text)

    @cached_property
    def nameless(self) -> str:
        """The text without title and artist: their words are nobody's fault."""
        return self.without_names(self.plain)

    def without_names(self, text: str) -> str:
        """A plain text with § for title and artist."""
        for name in sorted((plain(self.facts.get(key, "")) for key in ("title", "artist")), key=len, reverse=True):
            text = re.sub(rf"\b{re.escape(name)}\b", "§", text) if name else text
        return text

    @property
    def facts(self) -> dict:
        return self.item["facts"]

    @property
    def is_song(self) -> bool:
        return self.item["type"] in ("intro", "outro")


Check = Callable[[Script], Iterator[str]]
RULES: dict[str, tuple[str, Check]] = {}


def rule(name: str, meaning: str) -> Callable[[Check], Check]:
    """Register a check under its id; `meaning` is what docs and feedback say of it."""

    def register(check: Check) -> Check:
        RULES[name] = (meaning, check)
        return check

    return register


def plain(text: str) -> str:
    """Lower case, straight quotes, no accents lost, one space between words, dashes as spaces."""
    text = unicodedata.normalize("NFKC", text).lower().translate(str.maketrans("‘’“”–—-", "''\"\"   "))
    return re.sub(r"\s+", " ", text).strip()


def matches(pattern: str, text: str, flags: int = 0) -> Iterator[str]:
    """Every place where a pattern is found."""
    yield from (match[0].strip() for match in re.finditer(pattern, text, flags))


def named(names: Iterable[str], text: str) -> Iterator[str]:
    """Every whole name that a plain text holds."""
    pattern = _any_of(tuple(names))
    if pattern is not None:
        yield from (match[0] for match in pattern.finditer(text))


@lru_cache(maxsize=256)
def _any_of(names: tuple[str, ...]) -> re.Pattern | None:
    """One pattern for many names, longest first; None for no names."""
    words = sorted({plain(name) for name in names if name.strip()}, key=lambda name: (-len(name), name))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)") if words else None
