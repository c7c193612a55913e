"""What the parts of an episode are for, and the profiles of structure and style that follow from it.

Rules, not a model: each sentence or utterance is compared with cue phrases, with the paper's own sections and with its
place in the episode, and the likeliest sequence is taken (Viterbi 1967). The same rules read the human reference and
what is written, so what they get wrong they get wrong on both sides.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from voxmake.calibration.words import content, sentences, words

KINDS = (
    "intro", "background", "problem", "method", "finding", "figure", "implication", "limitation", "conclusion",
    "tangent", "transition",
)  # fmt: skip
# Words that give a kind away, in plain lower case. People and prompts use the same ones.
CUES = {
    "intro": r"welcome|hello|good (?:morning|evening|day)|today (?:we|i)|this episode|the show",
    "background": r"background|for context|remind us|some history|has long|first, what|how can|why does|to understand",
    "problem": r"problem|the question|trouble|challenge|nobody (?:knew|had)|no study|what is missing|wanted to know",
    "method": r"method|how (?:did|do) (?:they|we)|test(?:ed)?|took part|experiment|they (?:fixed|measured|compared|recorded|asked)|how it was done",
    "finding": r"found|find|result|turned out|showed|came out|the outcome",
    "figure": r"figure|chart|graph|diagram|table|the line|curve|picture",
    "implication": r"it means|does (?:it|this|that) mean|matters|in practice|so what|consequence|be of use",
    "limitation": r"limitation|caveat|of course|be careful|nobody knows|do not know|don't know|does not tell|weak point|fair to say",
    "conclusion": r"sum (?:it )?up|in conclusion|for listening|next time|take away|remember one thing|good bye|goodbye|until then",
    "tangent": r"by the way|that reminds me|funny|speaking of|i once|my own|off topic",
    "transition": r"moving on|let us (?:move|turn|go)|that brings us|before we go|next up|after the break",
}
_CUE_WEIGHT, _PLACE_WEIGHT, _SWITCH = 1.0, 0.8, 0.5
_EDGE = 0.08  # share of an episode that is its beginning, and its end
_TANGENT = 0.25  # what speaks for a tangent where nothing in the paper is like it
_WINDOW = 50  # words over which vocabulary is counted (moving-average type-token ratio, Covington & McFall 2010)


def classify(units: Sequence[str], document: dict[str, Any]) -> list[str]:
    """The kind of each sentence or utterance.

    Args:
        units: texts in order.
        document: of `read_document`.
    """
    if not units:
        return []
    likeness = _Likeness(document)
    lengths = [max(1, len(words(unit))) for unit in units]
    total, done = sum(lengths), 0
    best: dict[str, tuple[float, list[str]]] = {}
    for number, (unit, length) in enumerate(zip(units, lengths, strict=True)):
        scores = _scores(unit, (done + length / 2) / total, likeness)
        done += length
        if number == 0:
            best = {kind: (scores[kind], [kind]) for kind in KINDS}
            continue
        step = {}
        for kind in KINDS:
            before = max(KINDS, key=lambda other: best[other][0] - (_SWITCH if other != kind else 0))
            score, path = best[before]
            step[kind] = (score - (_SWITCH if before != kind else 0) + scores[kind], [*path, kind])
        best = step
    return max(best.values(), key=lambda one: one[0])[1]


def _scores(unit: str, place: float, likeness: _Likeness) -> dict[str, float]:
    plain = " ".join(words(unit))
    like = likeness.of(unit)
    scores = {}
    for kind in KINDS:
        cues = len(set(re.findall(rf"\b(?:{CUES[kind]})\b", plain)))
        scores[kind] = _CUE_WEIGHT * min(cues, 2) + like.get(kind, 0.0)
    scores["intro"] += _PLACE_WEIGHT * (place < _EDGE)
    scores["conclusion"] += _PLACE_WEIGHT * (place > 1 - _EDGE)
    if max(like.values(), default=0.0) == 0 and _EDGE < place < 1 - _EDGE:
        scores["tangent"] += _TANGENT
    return scores


class _Likeness:
    """Cosine of TF-IDF vectors, between a text and what the paper says under each kind."""

    def __init__(self, document: dict[str, Any]):
        texts: dict[str, list[str]] = {}
        for section in document["sections"]:
            # An abstract says a little of everything, so it speaks for no kind.
            if section["kind"] and section["kind"] != "intro":
                texts.setdefault(section["kind"], []).extend(section["sentences"])
        texts["figure"] = [figure["caption"] for figure in document["figures"]]
        counts = {kind: Counter(content(" ".join(parts))) for kind, parts in texts.items() if parts}
        self.spread = Counter(term for terms in counts.values() for term in terms)
        self.kinds = len(counts)
        self.vectors = {kind: self._vector(terms) for kind, terms in counts.items()}

    def _vector(self, terms: Counter) -> dict[str, float]:
        made = {
            term: (1 + math.log(count)) * math.log(1 + self.kinds / self.spread[term])
            for term, count in terms.items()
            if self.spread[term]
        }
        norm = math.sqrt(sum(value * value for value in made.values()))
        return {term: value / norm for term, value in made.items()} if norm else {}

    def of(self, text: str) -> dict[str, float]:
        mine = self._vector(Counter(content(text)))
        return {
            kind: sum(value * other.get(term, 0.0) for term, value in mine.items())
            for kind, other in self.vectors.items()
        }


def structure(units: Sequence[str], kinds: Sequence[str], spans: Sequence[tuple[float, float]] = ()) -> dict[str, Any]:
    """Structure profile.

    Args:
        spans: start and end of each unit in seconds, where they are known.

    Returns:
        order: kinds of the segments, neighbours of one kind joined; shares: of all words, by kind; durations_s: seconds
        by kind, empty without spans; segments: kind, text, and start_s and end_s where they are known.
    """
    segments: list[dict[str, Any]] = []
    for number, (unit, kind) in enumerate(zip(units, kinds, strict=True)):
        if segments and segments[-1]["kind"] == kind:
            segments[-1]["text"] += f" {unit}"
        else:
            segments.append({"kind": kind, "text": unit} | ({"start_s": spans[number][0]} if spans else {}))
        if spans:
            segments[-1]["end_s"] = spans[number][1]
    counts: Counter[str] = Counter()
    seconds: dict[str, float] = {}
    for segment in segments:
        counts[segment["kind"]] += len(words(segment["text"]))
        if spans:
            kind = segment["kind"]
            seconds[kind] = round(seconds.get(kind, 0.0) + segment["end_s"] - segment["start_s"], 3)
    total = sum(counts.values())
    return {
        "order": [segment["kind"] for segment in segments],
        "shares": {kind: round(counts[kind] / total, 6) for kind in KINDS if counts[kind]},
        "durations_s": {kind: seconds[kind] for kind in KINDS if kind in seconds},
        "segments": segments,
    }


def script_structure(script: str, document: dict[str, Any]) -> dict[str, Any]:
    """Structure profile of a written script."""
    units = sentences(script)
    return structure(units, classify(units, document))


_ASKS = re.compile(
    r"^(?:(?:so|and|but|still|well|now)\s+)?(?:who|what|why|how|when|where|which|is|are|do|does|did|can)\b"
)


def style(heard: dict[str, Any]) -> dict[str, Any]:
    """Style profile of a reference; a recogniser writes no question marks, so questions are told by their first words."""
    texts = [one["text"] for one in heard["utterances"]]
    spoken = [word for text in texts for word in words(text)]
    return {
        "words": len(spoken),
        "words_per_s": round(len(spoken) / heard["duration_s"], 4),
        "words_per_sentence": round(fmean(len(words(text)) for text in texts), 3),
        "questions": round(
            sum("?" in text or bool(_ASKS.match(" ".join(words(text)))) for text in texts) / len(texts), 4
        ),
        "vocabulary": round(variety(spoken), 4),
        "pause_share": round(1 - heard["speech_s"] / heard["duration_s"], 4),
        "pause_s": round(median(heard["pauses_s"]), 3) if heard["pauses_s"] else 0.0,
    }


def variety(tokens: Sequence[str]) -> float:
    """Moving-average type-token ratio, 0 to 1: the share of different words in each window of 50."""
    if not tokens:
        return 0.0
    size = min(_WINDOW, len(tokens))
    return fmean(len(set(tokens[at : at + size])) / size for at in range(len(tokens) - size + 1))


def aggregate(references: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The profile that prompts are written to: what the references of the training pairs have in common.

    Args:
        references: `structure`, `style` and `duration_s` of each.

    Returns:
        duration_s, order, shares, and every number of the style profile, as means. The order has each kind that stands
        in at least half of the references, by its mean place.
    """
    places: dict[str, list[float]] = {}
    for one in references:
        order = one["structure"]["order"]
        for kind in set(order):
            first = [at for at, other in enumerate(order) if other == kind]
            places.setdefault(kind, []).append(fmean(first) / max(1, len(order) - 1))
    common = [kind for kind in KINDS if len(places.get(kind, ())) * 2 >= len(references)]
    count = len(references)
    return {
        "duration_s": round(fmean(one["duration_s"] for one in references), 3),
        "order": sorted(common, key=lambda kind: (fmean(places[kind]), KINDS.index(kind))),
        "shares": {
            kind: round(sum(one["structure"]["shares"].get(kind, 0.0) for one in references) / count, 4)
            for kind in KINDS
            if kind in places
        },
        "style": {name: round(fmean(one["style"][name] for one in references), 4) for name in references[0]["style"]},
    }
