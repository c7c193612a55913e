"""The embedded writer: a persona's own sentences, drawn by seed and filled with what is known.

A persona's `grammar:` holds lists of alternatives; {name} draws one of the list `name` or puts a fact
in. {name_a} gives it an article, {name_cap} and {name_low} change its first letter. A pattern whose facts
are unknown is left out, so nothing is said that the catalog does not hold. No weights, no network;
what it makes says that a grammar made it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from voxmake.writing.engine import EngineError, Text, TextRequest

_SLOT = re.compile(r"\{([a-z_]+?)((?:_(?:a|cap|low))*)\}")
_DRAWS = 60  # texts that are drawn before the shortest that fits is looked for by pattern
_MAX_DEPTH = 8


class Grammar:
    """TextEngine over the personas' grammars."""

    def generate(self, requests: Sequence[TextRequest]) -> list[Text | EngineError]:
        return [self._write(request) for request in requests]

    def _write(self, request: TextRequest) -> Text | EngineError:
        material = request.material
        rules, facts = material["grammar"], {key: str(v) for key, v in material["facts"].items() if v not in (None, "")}
        patterns = [one for one in rules.get(material["type"], []) if _known(one, rules, facts)]
        if not patterns:
            return EngineError("no_text", f"the persona's grammar has no usable {material['type']} pattern")
        rng = random.Random(request.seed)
        low, high = material["min_words"], material["max_words"]
        for _ in range(_DRAWS):
            text = _fill(rng.choice(patterns), rules, facts, rng)
            if low <= len(text.split()) <= high and not _repeats(text):
                return Text(text)
        for pattern in sorted(patterns, key=len):  # little room: the plainest one that fits
            text = _fill(pattern, rules, facts, rng)
            if low <= len(text.split()) <= high:
                return Text(text)
        return EngineError("no_text", f"no sentence of {low} to {high} words fits")


def _known(pattern: str, rules: dict[str, list[str]], facts: dict[str, str]) -> bool:
    return all(name in facts or name in rules for name, _ in _SLOT.findall(pattern))


def _fill(pattern: str, rules: dict[str, list[str]], facts: dict[str, str], rng: random.Random, depth: int = 0) -> str:
    def value(match: re.Match) -> str:
        name, changes = match.groups()
        if name in facts:
            text = facts[name]
        elif depth < _MAX_DEPTH:
            text = _fill(rng.choice(rules[name]), rules, facts, rng, depth + 1)
        else:
            raise ValueError(f"the grammar's {name!r} refers to itself")
        for change in changes.split("_")[1:]:
            text = _CHANGES[change](text)
        return text

    text = _SLOT.sub(value, pattern)
    if depth:
        return text
    text = re.sub(r"([.!?])[.]", r"\1", text)  # a title that ends with a mark, at the end of a sentence
    return re.sub(r"(^|[.!?] )([a-z])", lambda match: match[1] + match[2].upper(), text)


def _low(text: str) -> str:
    return text if re.match(r"I\b|I'", text) else text[:1].lower() + text[1:]


_CHANGES = {
    "a": lambda text: f"{'an' if text[:1].lower() in 'aeiou' else 'a'} {text}",
    "cap": lambda text: text[:1].upper() + text[1:],
    "low": _low,
}


def _repeats(text: str) -> bool:
    """The same three words twice in one short text: two slots drew nearly the same."""
    words = re.findall(r"\w+", text.lower())
    grams = [tuple(words[at : at + 3]) for at in range(len(words) - 2)]
    return len(set(grams)) < len(grams)
