"""The marked guidance block of the prompt: the only part of it that calibration changes.

    {# guidance #}
    Length: 2.5 words for each second of the profile.
    Order: intro, background, problem, method, finding, figure, implication, limitation, conclusion.
    Depth: intro 1, background 2, …
    Concepts: say at least 50 percent of the listed concepts by name.
    Sentences: at most 30 words.
    {# end of guidance #}

A model reads these lines as they stand and may rewrite them in its own words. The embedded writer reads the numbers in
them, and the embedded refiner changes the numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from voxmake.calibration.segments import KINDS
from voxmake.calibration.words import words
from voxmake.errors import ConfigError

_BLOCK = re.compile(r"(\{# guidance #\}\n)(.*?)(\n\{# end of guidance #\})", re.DOTALL)
_MAX_CHARS = 3000
_QUOTE_WORDS = 5
_LEAST_WPS, _MOST_WPS = 0.2, 8.0


@dataclass(frozen=True)
class Guidance:
    """The parameters of the block.

    Attributes:
        words_per_s: words of the script for each second of the profile's mean duration.
        order: kinds, each at most once.
        depth: relative length of each kind.
        concepts: percent of the listed concepts that are said by name.
        sentence_words: longer sentences are divided.
    """

    words_per_s: float
    order: tuple[str, ...]
    depth: Mapping[str, float] = field(default_factory=dict)
    concepts: int = 50
    sentence_words: int = 30

    def text(self) -> str:
        depth = ", ".join(f"{kind} {self.depth.get(kind, 1):g}" for kind in self.order)
        return (
            f"Length: {self.words_per_s:g} words for each second of the profile.\n"
            f"Order: {', '.join(self.order)}.\n"
            f"Depth: {depth}.\n"
            f"Concepts: say at least {self.concepts} percent of the listed concepts by name.\n"
            f"Sentences: at most {self.sentence_words} words."
        )


def block_of(template: str) -> str:
    """The guidance block of a prompt template.

    Raises:
        ConfigError: it has none, or more than one.
    """
    found = _BLOCK.findall(template)
    if len(found) != 1:
        raise ConfigError(
            f"prompt podcast.j2: needs one block between {{# guidance #}} and {{# end of guidance #}}, has {len(found)}"
        )
    return found[0][1]


def with_block(template: str, block: str) -> str:
    """The template with another block; everything outside stays byte for byte."""
    return _BLOCK.sub(lambda match: match[1] + block + match[3], template)


def parse(block: str) -> Guidance:
    """The parameters in a block.

    Raises:
        ConfigError: a line is missing, or says what no parameter can be.
    """
    lines = dict(re.findall(r"^(Length|Order|Depth|Concepts|Sentences):\s*(.+?)\.?\s*$", block, re.MULTILINE))
    if missing := [name for name in ("Length", "Order", "Depth", "Concepts", "Sentences") if name not in lines]:
        raise ConfigError(
            f"prompt podcast.j2: the guidance has no line {missing[0]!r}, which the embedded writer reads"
        )
    order = tuple(part.strip() for part in lines["Order"].split(","))
    depth = {}
    for part in lines["Depth"].split(","):
        kind, _, number = part.strip().rpartition(" ")
        if kind not in KINDS or not re.fullmatch(r"\d+(\.\d+)?", number):
            raise ConfigError(f"prompt podcast.j2: guidance, Depth: {part.strip()!r} is not a kind and a number")
        depth[kind] = float(number)
    if wrong := next((kind for kind in order if kind not in KINDS or order.count(kind) > 1), None):
        raise ConfigError(f"prompt podcast.j2: guidance, Order: {wrong!r}: takes each once of {', '.join(KINDS)}")
    numbers = {}
    for name in ("Length", "Concepts", "Sentences"):
        found = re.search(r"\d+(\.\d+)?", lines[name])
        if not found:
            raise ConfigError(f"prompt podcast.j2: guidance, {name}: has no number")
        numbers[name] = float(found[0])
    return Guidance(
        min(_MOST_WPS, max(_LEAST_WPS, numbers["Length"])), order, depth, min(100, int(numbers["Concepts"])),
        max(6, int(numbers["Sentences"])),
    )  # fmt: skip


def refusal(block: str, current: str, references: Iterable[Sequence[str]]) -> str:
    """Why a block that a model wrote is not taken; empty if it may be tried.

    Args:
        references: words of each human reference. A prompt that quotes five words in a row of one has learned that
            episode by heart, and show and host names with it.
    """
    if not block.strip():
        return "it is empty"
    if block.strip() == current.strip():
        return "it is the block that was there"
    if len(block) > _MAX_CHARS:
        return f"it is longer than {_MAX_CHARS} characters"
    if re.search(r"[{}]|<<<|>>>", block):
        return "it holds template or delimiter marks"
    mine = _runs(words(block))
    for spoken in references:
        if quoted := mine & _runs(spoken):
            return f"it quotes a reference: {' '.join(sorted(quoted)[0])!r}"
    return ""


def _runs(tokens: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(tokens[at : at + _QUOTE_WORDS]) for at in range(len(tokens) - _QUOTE_WORDS + 1)}


# ---------------------------------------------------------------------------- what the embedded refiner may try


def moves(now: Guidance, component: str, profile: Mapping, ratio: float) -> dict[str, Guidance]:
    """Neighbours of a guidance that may lower one component, by what is changed.

    Args:
        profile: `segments.aggregate` of the training pairs.
        ratio: seconds of the references over seconds of what was spoken, as means.
    """
    if component == "duration":
        found = {}
        for factor in (1.0, 0.94, 1.06):
            length = round(min(_MOST_WPS, max(_LEAST_WPS, now.words_per_s * ratio * factor)), 2)
            found[f"length {length:g} words per second"] = replace(now, words_per_s=length)
    elif component == "coverage":
        found = {f"concepts {share} percent": replace(now, concepts=share) for share in (60, 80, 100)}
        found |= _deeper(now)
    elif component == "structure":
        found = _orders(now, profile) | _deeper(now)
        shares = {kind: round(20 * profile["shares"].get(kind, 0.0), 1) for kind in now.order}
        found["depth as in the profile"] = replace(now, depth={kind: max(0.2, share) for kind, share in shares.items()})
    elif component == "quality":
        found = {f"sentences {most} words": replace(now, sentence_words=most) for most in (12, 16, 20, 26)}
    else:
        found = _deeper(now) | {f"sentences {most} words": replace(now, sentence_words=most) for most in (12, 20, 30)}
        found["length + 10 percent"] = replace(now, words_per_s=round(min(_MOST_WPS, now.words_per_s * 1.1), 2))
    return {name: one for name, one in found.items() if one != now}


def _deeper(now: Guidance) -> dict[str, Guidance]:
    found = {}
    for kind in now.order:
        depth = now.depth.get(kind, 1.0)
        for word, value in (("more", round(depth * 1.5, 1)), ("less", round(depth / 1.5, 1))):
            if value >= 0.2:
                found[f"{word} {kind}"] = replace(now, depth={**now.depth, kind: value})
    return found


def _orders(now: Guidance, profile: Mapping) -> dict[str, Guidance]:
    found = {}
    for at in range(len(now.order) - 1):
        swapped = list(now.order)
        swapped[at : at + 2] = reversed(swapped[at : at + 2])
        found[f"{swapped[at]} before {swapped[at + 1]}"] = replace(now, order=tuple(swapped))
    if profile["order"]:
        depth = {kind: now.depth.get(kind, 1.0) for kind in profile["order"]}
        found["order as in the profile"] = replace(now, order=tuple(profile["order"]), depth=depth)
    return found
