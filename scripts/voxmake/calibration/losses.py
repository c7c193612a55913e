"""What separates a script and its audio from the human reference: five losses, each 0 (as the reference) to 1.

duration   |d - reference| / reference, at most 1
coverage   the share of the paper's concepts that the script does not say; each one said is proven by a quote
structure  the mean of two: edit distance of the segment sequences over the longer one, and half the sum of the
           differences of the shares by kind (total variation)
quality    of a judge 1 - mean of engagement, clarity and accuracy / 100; without a judge 1 - mean of three measures
rouge      1 - mean F1 of ROUGE-1, ROUGE-2 and summary-level ROUGE-L (Lin 2004), with Porter stems

What can't be measured is None. It is never taken for 0, and the weights of the rest are scaled up to 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from statistics import fmean
from typing import Any

from voxmake.calibration.words import content, sentences, words

COMPONENTS = ("duration", "coverage", "structure", "quality", "rouge")
# Flesch reading ease (Flesch 1948): 60 and more is plain English, which is what can be followed by ear.
_PLAIN, _UNREADABLE = 60.0, 0.0


def duration_loss(duration_s: float | None, reference_s: float) -> float | None:
    if duration_s is None:
        return None
    return min(1.0, abs(duration_s - reference_s) / reference_s)


def coverage(script: str, concepts: Sequence[dict]) -> list[dict[str, Any]]:
    """Of each concept: `term`, and as `evidence` the first sentence that says all its words, or None.

    A concept is said when the stems of all its words stand in one sentence.
    """
    said = [(sentence, set(content(sentence))) for sentence in sentences(script)]
    found = []
    for concept in concepts:
        wanted = set(content(concept["term"]))
        evidence = next((sentence for sentence, stems in said if wanted and wanted <= stems), None)
        found.append({"term": concept["term"], "evidence": evidence})
    return found


def coverage_loss(found: Sequence[dict] | None) -> float | None:
    if not found:
        return None
    return 1 - sum(one["evidence"] is not None for one in found) / len(found)


def structure_loss(reference: Mapping[str, Any], made: Mapping[str, Any] | None) -> float | None:
    """Args: `order` and `shares` of two structure profiles; an empty script has an empty order and loses 1."""
    from rapidfuzz.distance import Levenshtein

    if made is None:
        return None
    if not made["order"]:
        return 1.0
    edits = Levenshtein.normalized_distance(reference["order"], made["order"])
    kinds = sorted({*reference["shares"], *made["shares"]})  # a sum of floats depends on its order
    apart = sum(abs(reference["shares"].get(kind, 0.0) - made["shares"].get(kind, 0.0)) for kind in kinds) / 2
    return (edits + apart) / 2


def measures(script: str, document_words: frozenset[str], reference: str) -> dict[str, float]:
    """What can be said of quality without a judge, each 0 to 1. No opinion on engagement, and none on truth.

    readability: Flesch reading ease, 60 (plain English) and more is 1, 0 and less is 0.
    grounding: the share of the content words that stand in the paper, over the reference's share, at most 1.
    no_repetition: the share of the runs of three words that are different.
    """
    spoken = words(script)
    if not spoken:
        return {"readability": 0.0, "grounding": 0.0, "no_repetition": 0.0}
    ease = reading_ease(script)
    runs = [tuple(spoken[at : at + 3]) for at in range(len(spoken) - 2)]
    usual = _grounded(reference, document_words)
    return {
        "readability": min(1.0, max(0.0, (ease - _UNREADABLE) / (_PLAIN - _UNREADABLE))),
        "grounding": min(1.0, _grounded(script, document_words) / usual) if usual else 1.0,
        "no_repetition": len(set(runs)) / len(runs) if runs else 1.0,
    }


def document_stems(document: dict[str, Any]) -> frozenset[str]:
    """The content words of a paper: title, sections, captions."""
    parts = [document["title"], *(figure["caption"] for figure in document["figures"])]
    parts += [sentence for section in document["sections"] for sentence in section["sentences"]]
    return frozenset(content(" ".join(parts)))


def _grounded(text: str, document_words: frozenset[str]) -> float:
    stems = content(text)
    return sum(stem in document_words for stem in stems) / len(stems) if stems else 0.0


def reading_ease(text: str) -> float:
    """206.835 - 1.015 words per sentence - 84.6 syllables per word."""
    spoken = words(text)
    count = max(1, len(sentences(text)))
    return 206.835 - 1.015 * len(spoken) / count - 84.6 * sum(map(syllables, spoken)) / max(1, len(spoken))


def syllables(word: str) -> int:
    """Groups of vowels, without a silent e at the end: good enough for a mean over a text."""
    groups = len(re.findall(r"[aeiouy]+", word))
    return max(1, groups - (word.endswith("e") and not word.endswith(("le", "ee")) and groups > 1))


def quality_loss(marks: Mapping[str, float] | None, scale: float) -> float | None:
    """Args: marks of a judge (scale 100) or measures (scale 1)."""
    return None if marks is None else 1 - fmean(marks.values()) / scale


def rouge(script: str, reference: str) -> dict[str, float]:
    """F1 of rouge1, rouge2 and rougeLsum (sentence by sentence, as summaries are compared)."""
    scores = _scorer().score("\n".join(sentences(reference)), "\n".join(sentences(script)))
    return {name: scores[name].fmeasure for name in ("rouge1", "rouge2", "rougeLsum")}


@cache
def _scorer():
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2", "rougeLsum"], use_stemmer=True)


def rouge_loss(found: Mapping[str, float]) -> float:
    return 1 - fmean(found.values())


def total_loss(components: Mapping[str, float | None], weights: Mapping[str, float]) -> tuple[float | None, dict]:
    """The weighted mean of what was measured, and the weights that it was made with; None if nothing was."""
    known = {name: weights[name] for name in COMPONENTS if components[name] is not None and weights[name] > 0}
    whole = sum(known.values())
    if not whole:
        return None, {}
    scaled = {name: weight / whole for name, weight in known.items()}
    return sum(scaled[name] * components[name] for name in known), scaled
