"""The embedded writer: sentences of the paper, chosen and ordered as the guidance says, with lead-ins from a grammar.

No weights and no network. What it makes is an extract, not prose: it says what the paper says, in the paper's words, and
its lead-ins come from configs/prompts/podcast_grammar.yaml through the same text engine that writes song intros.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from voxmake.calibration.guidance import Guidance
from voxmake.calibration.segments import KINDS, classify
from voxmake.calibration.words import content, words
from voxmake.errors import ConfigError
from voxmake.run.config import parse_yaml
from voxmake.writing.engine import EngineError, TextEngine, TextRequest, seed_of

_JITTER = 0.15  # how far the seed moves a sentence's weight, so that two draws differ as two answers of a model do
_LEAD_WORDS = (1, 40)
# The paper's "we" is not the host's.
_VOICE = ((r"\bWe\b", "They"), (r"\bwe\b", "they"), (r"\bOur\b", "Their"), (r"\bour\b", "their"), (r"\bus\b", "them"))


def read_grammar(path: Path) -> dict[str, list[str]]:
    """Lead-ins by kind.

    Raises:
        ConfigError: the file can't be read, or lacks a kind.
    """
    try:
        rules, _ = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError:
        raise ConfigError(f"{path}: no such file; the embedded writer takes its lead-ins from it") from None
    if missing := [kind for kind in KINDS if not isinstance(rules.get(kind), list)]:
        raise ConfigError(f"{path}: has no list of lead-ins for {missing[0]}")
    return rules


def lead_requests(
    pair_id: str, document: dict[str, Any], grammar: dict[str, list[str]], seed: int
) -> dict[str, TextRequest]:
    """What the grammar is asked for, by kind: one lead-in for each."""
    facts = {"title": document["title"], "concept": document["concepts"][0]["term"]}
    return {
        kind: TextRequest(
            f"{pair_id}/{kind}",
            "",
            "",
            seed_of(seed, kind, 0),
            material={
                "type": kind, "facts": facts, "grammar": grammar, "min_words": _LEAD_WORDS[0], "max_words": _LEAD_WORDS[1]
            },
        )
        for kind in KINDS
    }  # fmt: skip


def write(
    pair_id: str, document: dict, guidance: Guidance, profile: dict, grammar: dict, engine: TextEngine, seed: int
) -> str:
    """A script: one paragraph for each part."""
    requests = lead_requests(pair_id, document, grammar, seed)
    answers = engine.generate(list(requests.values()))
    leads = {
        kind: "" if isinstance(answer, EngineError) else answer.text
        for kind, answer in zip(requests, answers, strict=True)
    }
    return compose(document, guidance, profile["duration_s"], leads, seed)


def compose(document: dict, guidance: Guidance, duration_s: float, leads: dict[str, str], seed: int) -> str:
    """Fill each part of the order up to its share of the words.

    Args:
        duration_s: the profile's mean; leads: opening words of each part.
    """
    rng = random.Random(seed)
    pools = {kind: pool for kind, pool in _pools(document).items() if kind in guidance.order}
    order = [kind for kind in guidance.order if kind in pools]
    weight = _weights(document)
    scored = {
        kind: [(sentence, weight(sentence) * (1 + _JITTER * (rng.random() - 0.5))) for sentence in pools[kind]]
        for kind in KINDS
        if kind in pools
    }
    total = guidance.words_per_s * duration_s
    depth = {kind: guidance.depth.get(kind, 1.0) for kind in order}
    whole = sum(depth.values()) or 1.0
    wanted = [frozenset(content(concept["term"])) for concept in document["concepts"]]
    target = math.ceil(len(wanted) * guidance.concepts / 100)
    said: set[frozenset[str]] = set()
    parts = {}
    for kind in order:
        room = total * depth[kind] / whole - len(words(leads.get(kind, "")))
        chosen = _fill(scored[kind], room, wanted, said, target)
        parts[kind] = [sentence for sentence in pools[kind] if sentence in chosen]
    paragraphs = [
        " ".join([leads.get(kind, ""), *(_spoken(one, guidance.sentence_words) for one in parts[kind])]).strip()
        for kind in order
        if leads.get(kind) or parts[kind]
    ]
    return "\n\n".join(paragraphs) + "\n"


def _pools(document: dict) -> dict[str, list[str]]:
    """Sentences by kind, in the paper's order. Where a heading does not tell the kind, the rules of `segments` do."""
    pools: dict[str, list[str]] = {}
    for section in document["sections"]:
        kinds = [section["kind"]] * len(section["sentences"])
        if not section["kind"]:
            kinds = _kinds_of(tuple(section["sentences"]), document)
        for kind, sentence in zip(kinds, section["sentences"], strict=True):
            pools.setdefault(kind, []).append(sentence)
    pools.pop("tangent", None)
    pools.pop("transition", None)
    for figure in document["figures"]:
        caption = figure["caption"].rstrip(".")
        pools.setdefault("figure", []).append(f"{figure['label']} shows this: {caption[:1].lower()}{caption[1:]}.")
    pools.setdefault("intro", [])
    pools.setdefault("conclusion", [])
    return {kind: list(dict.fromkeys(pool)) for kind, pool in pools.items()}


def _kinds_of(sentences: tuple[str, ...], document: dict) -> list[str]:
    return classify(sentences, document)


def _weights(document: dict):
    """How central a sentence is, 0 to 1: the mean count of its content words in the whole paper, scaled."""
    counts = Counter(
        term for section in document["sections"] for sentence in section["sentences"] for term in content(sentence)
    )
    most = math.log(1 + max(counts.values(), default=1))

    def weight(sentence: str) -> float:
        stems = sorted(set(content(sentence)))  # a sum of floats depends on its order
        return sum(math.log(1 + counts[term]) for term in stems) / (len(stems) * most) if stems else 0.0

    return weight


def _fill(
    scored: list[tuple[str, float]], room: float, wanted: Sequence[frozenset[str]], said: set, target: int
) -> set[str]:
    """The best sentences that fit; while concepts are missing, one that brings a new one counts double and more."""
    chosen: set[str] = set()
    while room > 0:
        best, most = None, 0.0
        for sentence, weight in scored:
            length = len(words(sentence))
            if sentence in chosen or length - room > length / 2:
                continue
            stems = set(_stems(sentence))
            news = sum(concept <= stems for concept in wanted if concept not in said) if len(said) < target else 0
            value = weight * (1 + 2 * news)
            if value > most:
                best, most = sentence, value
        if best is None:
            break
        chosen.add(best)
        room -= len(words(best))
        said |= {concept for concept in wanted if concept <= set(_stems(best))}
    return chosen


@lru_cache(maxsize=20000)
def _stems(sentence: str) -> tuple[str, ...]:
    return tuple(content(sentence))


def _spoken(sentence: str, most_words: int) -> str:
    """A sentence for the ear: without brackets, in the third person, divided at a comma where it is too long."""
    text = re.sub(r"\s*\([^()]*\)", "", sentence)
    for pattern, other in _VOICE:
        text = re.sub(pattern, other, text)
    if len(words(text)) <= most_words:
        return text
    joints = [match.start() for match in re.finditer(r", (?=(?:and|but|so|or|because|which|while) )", text)]
    if not joints:
        return text
    at = min(joints, key=lambda place: abs(place - len(text) / 2))
    rest = text[at + 2 :]
    return f"{_spoken(text[:at] + '.', most_words)} {_spoken(rest[:1].upper() + rest[1:], most_words)}"
