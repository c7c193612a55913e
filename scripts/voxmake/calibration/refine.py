"""Refinement: another guidance block for the weakest component, from a search or from a model; nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from voxmake.calibration import losses
from voxmake.calibration.asking import NoAnswer, Unusable
from voxmake.calibration.guidance import Guidance, block_of, moves, parse, refusal, with_block
from voxmake.calibration.pairs import Pair
from voxmake.calibration.trials import Bench, Trial
from voxmake.calibration.words import words
from voxmake.run.work import Item, Limits

if TYPE_CHECKING:
    from voxmake.run.worker import Output

_STEPS = 2  # changes that one trial may join, all of one component
_LEAST = 1e-4  # a smaller promise is none


@dataclass
class Proposal:
    """A prompt to try.

    Attributes:
        change: component, what (in words), before and after where they are known.
        refused: blocks that were not taken, with reasons.
    """

    template: str
    change: dict[str, Any]
    refused: list[dict[str, str]] = field(default_factory=list)


def weakest(best: Trial, weights: Mapping[str, float]) -> list[str]:
    """Components by what they add to the total, most first; those that were not measured are left out."""
    means = best.means()
    known = [name for name in losses.COMPONENTS if means[name] is not None and weights[name] > 0 and means[name] > 0]
    return sorted(known, key=lambda name: -weights[name] * means[name])


class Try:
    """Worker: guidance in, what the embedded writer's scripts would lose out. Nothing is spoken: the length is told by words.

    Args:
        pairs: id, document, structure, text, duration_s, seed and s_per_word of each training pair.
    """

    def __init__(self, pairs: list[dict], profile: dict, grammar: dict, weights: dict):
        from voxmake.writing.grammar import Grammar

        self.pairs, self.profile, self.grammar, self.weights = pairs, profile, grammar, weights
        self.engine = Grammar()
        self.stems = {one["id"]: losses.document_stems(one["document"]) for one in pairs}

    def __call__(self, payload: dict, output: Output) -> dict:
        """payload: `block`. Row: `total`, the mean over the pairs."""
        from voxmake.calibration.segments import script_structure
        from voxmake.calibration.writer import write

        guidance = parse(payload["block"])
        totals = []
        for one in self.pairs:
            document = one["document"]
            script = write(one["id"], document, guidance, self.profile, self.grammar, self.engine, one["seed"])
            spoken_s = len(words(script)) * one["s_per_word"] if one["s_per_word"] else None
            components = {
                "duration": losses.duration_loss(spoken_s, one["duration_s"]),
                "coverage": losses.coverage_loss(losses.coverage(script, document["concepts"])),
                "structure": losses.structure_loss(one["structure"], script_structure(script, document)),
                "quality": losses.quality_loss(losses.measures(script, self.stems[one["id"]], one["text"]), 1),
                "rouge": losses.rouge_loss(losses.rouge(script, one["text"])),
            }
            totals.append(losses.total_loss(components, self.weights)[0])
        return {"total": round(fmean(totals), 9)}


def search(bench: Bench, best: Trial, pairs: Sequence[Pair], component: str, name: str) -> Proposal | None:
    """The best neighbour of the guidance, in up to two steps; None if none is better."""
    known = [
        {
            "id": pair.id, "document": pair.document, "structure": pair.structure, "text": pair.text,
            "duration_s": pair.duration_s, "seed": bench.seed("write", pair.id, 0),
            "s_per_word": (best.pairs[pair.id]["duration_s"] or 0) / max(1, best.pairs[pair.id]["words"]),
        }
        for pair in pairs
    ]  # fmt: skip
    spoken = [one["duration_s"] for one in best.pairs.values() if one["duration_s"]]
    ratio = bench.profile["duration_s"] / fmean(spoken) if spoken else 1.0
    args = {
        "pairs": known, "profile": bench.profile, "grammar": bench.grammar, "weights": bench.spec.weights,
    }  # fmt: skip
    first = now = parse(block_of(best.template))
    steps: list[str] = []
    standing = None
    for step in range(_STEPS):
        found: dict[str, Guidance] = moves(now, component, bench.profile, ratio if step == 0 else 1.0)
        tried = {"as it is": now, **found} if standing is None else found
        items = [Item(f"{name}/{component}/{step}/{what}", {"block": one.text()}) for what, one in tried.items()]
        rows = bench.run.map(items, Try, args, Limits(), "guidances", again=True)
        totals = {key.split("/", 3)[3]: row["total"] for key, row in rows.items()}
        standing = totals.pop("as it is", standing)
        if not totals or standing is None:
            break
        what = min(totals, key=lambda one: (totals[one], one))
        if totals[what] > standing - _LEAST:
            break
        now, standing = tried[what], totals[what]
        steps.append(what)
    if now == first:
        return None
    change = {"component": component, "what": ", then ".join(steps), "by": "search"}
    return Proposal(with_block(best.template, now.text()), change)


def ask(bench: Bench, best: Trial, pairs: Sequence[Pair], component: str, name: str) -> Proposal | None:
    """A block from the text engine; None if all it gave was refused."""
    block = block_of(best.template)
    key = f"{name}/{component}/refine"
    refused: list[dict[str, str]] = []
    spoken = [words(pair.text) for pair in pairs]

    def read(_: str, text: str) -> str:
        made = text.strip().strip("`").strip()
        if why := refusal(made, block, spoken):
            refused.append({"block": made[:500], "why": why})
            raise Unusable(why)
        return made

    request = bench.questions.refinement(key, bench.seed(key, "", 0), block, component, feedback(best))
    answer = bench.writer.ask([request], read)[key]
    if isinstance(answer, NoAnswer):
        return None
    return Proposal(
        with_block(best.template, answer), {"component": component, "what": "rewritten", "by": "model"}, refused
    )


def feedback(best: Trial) -> str:
    """What was found on the training pairs, one line each: concepts, words, structure, the judge's own words."""
    found = []
    for key, one in best.pairs.items():
        if one["concepts"] and (missed := [c["term"] for c in one["concepts"] if c["evidence"] is None]):
            found.append(f"{key}: concepts not said: {', '.join(missed)}")
        if one["duration_s"]:
            over = round(one["words"] * (1 - one["reference_s"] / one["duration_s"]))
            found.append(f"{key}: {abs(over)} words too {'many' if over > 0 else 'few'} of {one['words']}")
        if one["order"] and one["reference_order"] and one["order"] != one["reference_order"]:
            found.append(f"{key}: parts {', '.join(one['order'])}; people's: {', '.join(one['reference_order'])}")
        marks = one["quality"]["marks"] or {}
        found += [
            f"{key}: {name} {mark['score']}: {mark['reason']} ({'; '.join(mark['evidence'])[:200]})"
            for name, mark in marks.items()
            if isinstance(mark, dict)
        ]
    return "\n".join(found)


def propose(bench: Bench, best: Trial, pairs: Sequence[Pair], exhausted: set[str], name: str) -> Proposal | None:
    """The next prompt: for the weakest component that something can be done about.

    Args:
        exhausted: components for which nothing better was found since the best prompt was kept; added to.
    """
    way: Callable = search if bench.grammar is not None else ask
    for component in weakest(best, bench.spec.weights):
        if component in exhausted:
            continue
        if proposal := way(bench, best, pairs, component, name):
            return proposal
        exhausted.add(component)
        bench.run.log.info("%s: nothing better found for %s", name, component)
    return None
