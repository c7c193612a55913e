"""One trial: a script for each pair from one prompt, spoken, and measured against what people made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from voxmake.calibration import losses
from voxmake.calibration.asking import Asker, NoAnswer, Questions, read_coverage, read_quality, read_segments
from voxmake.calibration.guidance import block_of, parse
from voxmake.calibration.pairs import Pair
from voxmake.calibration.segments import script_structure, structure
from voxmake.calibration.speech import Speaker
from voxmake.calibration.words import sentences, words
from voxmake.writing.engine import seed_of

if TYPE_CHECKING:
    from voxmake.run.run import Run

_DIGITS = 6  # of every loss that is written


@dataclass
class Trial:
    """A prompt, and what came of it on some pairs.

    Attributes:
        name: folder of its files in the run.
        template: the whole prompt.
        change: what differs from the prompt it was made from.
        pairs: results by pair id, see `Bench.measure`.
        scripts: by pair id; a pair without one has no text from the engine.
    """

    name: str
    template: str
    change: dict[str, Any] | None = None
    pairs: dict[str, dict] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)

    @property
    def totals(self) -> dict[str, float]:
        return {key: one["total"] for key, one in self.pairs.items() if one["total"] is not None}

    @property
    def total(self) -> float | None:
        return round(fmean(self.totals.values()), _DIGITS) if self.totals else None

    def means(self) -> dict[str, float | None]:
        """Mean of each component over the pairs where it was measured."""
        found: dict[str, float | None] = {}
        for name in losses.COMPONENTS:
            known = [one["components"][name] for one in self.pairs.values() if one["components"][name] is not None]
            found[name] = round(fmean(known), _DIGITS) if known else None
        return found

    def record(self) -> dict[str, Any]:
        """results.json."""
        return {
            "trial": self.name,
            "guidance": block_of(self.template),
            "change": self.change,
            "total": self.total,
            "components": self.means(),
            "pairs": self.pairs,
        }


def gain(before: Trial, after: Trial, weights: Mapping[str, float]) -> tuple[float, float]:
    """How much lower the loss is after, and the loss before: means over what was measured in both.

    Pairs or components that only one of them has are left out on both sides, so that nothing looks better because it
    could not be measured.
    """
    changes, bases = [], []
    for key in sorted(set(before.pairs) & set(after.pairs)):
        old, new = before.pairs[key]["components"], after.pairs[key]["components"]
        both = [name for name in losses.COMPONENTS if old[name] is not None and new[name] is not None]
        base, _ = losses.total_loss({name: old[name] if name in both else None for name in losses.COMPONENTS}, weights)
        now, _ = losses.total_loss({name: new[name] if name in both else None for name in losses.COMPONENTS}, weights)
        if base is not None and now is not None:
            changes.append(base - now)
            bases.append(base)
    return (fmean(changes), fmean(bases)) if changes else (0.0, 0.0)


class Bench:
    """Everything that a trial needs.

    Args:
        spec: section `calibrate`; judge: section `judge`.
        grammar: of the embedded writer; None when a model writes.
        serve: see `Asker`.
    """

    def __init__(
        self,
        run: Run,
        spec: Any,
        judge: Any,
        questions: Questions,
        grammar: dict | None,
        voice: Speaker,
        serve: Callable,
    ):
        self.run, self.spec, self.questions, self.grammar, self.voice = run, spec, questions, grammar, voice
        self.measured = judge.engine == "measures"
        self.writer, self.judge = Asker(run, spec, serve), Asker(run, judge, serve)
        self.profile: dict[str, Any] = {}  # of the training pairs, once they are analysed

    # ------------------------------------------------------------------ one trial

    def trial(
        self, name: str, template: str, pairs: Sequence[Pair], change: dict | None = None, draw: int = 0
    ) -> Trial:
        """Write, speak and measure.

        Args:
            name: folder below the run.
            draw: trials that are compared have one draw, so the same seeds on the same pairs.
        """
        made = Trial(name, template, change)
        made.scripts = self.write(name, template, pairs, draw)
        spoken = self.voice.say(self.run, name, made.scripts, self.spec.language)
        kinds = self.classify(name, made.scripts, {pair.id: pair.document for pair in pairs}, draw)
        covered, marks = self.judged(name, made.scripts, pairs, draw)
        for pair in pairs:
            made.pairs[pair.id] = self.measure(
                pair, name, made.scripts.get(pair.id), spoken.get(pair.id), kinds.get(pair.id), covered.get(pair.id),
                marks.get(pair.id),
            )  # fmt: skip
        self.run.write_json(f"{name}/results.json", made.record())
        self.run.write_text(f"{name}/prompt.j2", template)
        return made

    def seed(self, what: str, pair_id: str, draw: int) -> int:
        return seed_of(self.run.config.seed, f"{what} {pair_id}", draw)

    def write(self, name: str, template: str, pairs: Sequence[Pair], draw: int) -> dict[str, str]:
        """A script for each pair; written into the run's folder."""
        if self.grammar is not None:
            from voxmake.calibration.writer import write
            from voxmake.writing import engine

            guidance, grammar = parse(block_of(template)), engine.load(self.spec.model_dump(mode="json"))
            made: dict[str, Any] = {
                pair.id: write(
                    pair.id, pair.document, guidance, self.profile, self.grammar, grammar, self.seed("write", pair.id, draw)
                )
                for pair in pairs
            }  # fmt: skip
        else:
            asked = {
                f"{name}/{pair.id}/write": self.questions.script(
                    template, f"{name}/{pair.id}/write", self.seed("write", pair.id, draw), pair.document, self.profile
                )
                for pair in pairs
            }
            answers = self.writer.ask(list(asked.values()), lambda _, text: text + "\n")
            made = {key.split("/")[-2]: text for key, text in answers.items()}
        made = {key: text for key, text in made.items() if not isinstance(text, NoAnswer)}
        for key, text in made.items():
            self.run.write_text(f"{name}/{key}_script.txt", text)
        return made

    def classify(
        self, name: str, scripts: Mapping[str, str], documents: Mapping[str, dict], draw: int
    ) -> dict[str, dict | NoAnswer]:
        """Structure profile of each script: by rules, or by the text engine."""
        if self.grammar is not None:
            return {key: script_structure(text, documents[key]) for key, text in scripts.items()}
        units = {key: sentences(text) for key, text in scripts.items()}
        kinds = self.kinds_of(name, units, draw)
        return {key: one if isinstance(one, NoAnswer) else structure(units[key], one) for key, one in kinds.items()}

    def kinds_of(self, name: str, units: Mapping[str, Sequence[str]], draw: int) -> dict[str, list[str] | NoAnswer]:
        """The kind of each unit, by the text engine; ids of pairs to kinds."""
        asked = {
            f"{name}/{key}/segments": self.questions.segments(
                f"{name}/{key}/segments", self.seed("segments", key, draw), parts
            )
            for key, parts in units.items()
        }
        counts = {f"{name}/{key}/segments": len(parts) for key, parts in units.items()}
        answers = self.writer.ask(list(asked.values()), lambda key, text: read_segments(text, counts[key]))
        return {key.split("/")[-2]: answer for key, answer in answers.items()}

    def judged(
        self, name: str, scripts: Mapping[str, str], pairs: Sequence[Pair], draw: int
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Coverage and quality of each script, by id: by measures, or by the judge; NoAnswer where it gave none."""
        chosen = [pair for pair in pairs if pair.id in scripts]
        if self.measured:
            return (
                {pair.id: losses.coverage(scripts[pair.id], pair.document["concepts"]) for pair in chosen},
                {pair.id: losses.measures(scripts[pair.id], pair.stems, pair.text) for pair in chosen},
            )
        by_id = {pair.id: pair for pair in chosen}
        covered = self.judge.ask(
            [
                self.questions.coverage(
                    f"{name}/{pair.id}/coverage", self.seed("coverage", pair.id, draw), scripts[pair.id],
                    pair.document["concepts"],
                )
                for pair in chosen
            ],
            lambda key, text: read_coverage(
                text, scripts[key.split("/")[-2]], by_id[key.split("/")[-2]].document["concepts"]
            ),
        )  # fmt: skip
        marks = self.judge.ask(
            [
                self.questions.quality(
                    f"{name}/{pair.id}/quality", self.seed("quality", pair.id, draw), scripts[pair.id], pair.document
                )
                for pair in chosen
            ],
            lambda key, text: read_quality(text, scripts[key.split("/")[-2]]),
        )
        return (
            {key.split("/")[-2]: one for key, one in covered.items()},
            {key.split("/")[-2]: one for key, one in marks.items()},
        )

    # ------------------------------------------------------------------ losses

    def measure(
        self, pair: Pair, name: str, script: str | None, spoken: dict | None, made: Any, covered: Any, marks: Any
    ) -> dict[str, Any]:
        """The result of one pair: what was compared, five losses, the weights that were used, and what is missing."""
        notes: list[str] = []

        def known(what: str, value: Any) -> Any:
            if script is None or value is None or isinstance(value, NoAnswer):
                why = "the text engine wrote no script" if script is None else getattr(value, "detail", "no audio")
                notes.append(f"{what}: {why}")
                return None
            return value

        spoken, made = known("duration", spoken), known("structure", made)
        covered, marks = known("coverage", covered), known("quality", marks)
        if made is not None and pair.structure is None:
            made = known("structure", NoAnswer("the text engine did not classify the reference"))
        scores = marks if self.measured or marks is None else {key: one["score"] for key, one in marks.items()}
        rouge = None if script is None else losses.rouge(script, pair.text)
        components = {
            "duration": None if spoken is None else losses.duration_loss(spoken["duration_s"], pair.duration_s),
            "coverage": losses.coverage_loss(covered),
            "structure": None if made is None else losses.structure_loss(pair.structure, made),
            "quality": losses.quality_loss(scores, 1 if self.measured else 100),
            "rouge": None if rouge is None else losses.rouge_loss(rouge),
        }
        total, weights = losses.total_loss(components, self.spec.weights)
        return _rounded(
            {
                "script": f"{name}/{pair.id}_script.txt" if script is not None else None,
                "audio": spoken["file_name"] if spoken else None,
                "words": len(words(script or "")),
                "duration_s": spoken["duration_s"] if spoken else None,
                "reference_s": pair.duration_s,
                "components": components,
                "weights": weights,
                "total": total,
                "rouge": rouge,
                "concepts": covered,
                "quality": {"judge": None if self.measured else self.judge.spec.engine, "marks": marks},
                "order": made["order"] if made else None,
                "shares": made["shares"] if made else None,
                "reference_order": pair.structure["order"] if pair.structure else None,
                "not_measured": notes,
            }
        )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value
