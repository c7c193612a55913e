"""The model auditor: a verdict that must prove itself, or it is an error.

A model is asked for JSON by schema: of each criterion first the reason, then words of the script as evidence,
then the score. An answer that does not follow the schema, quotes what the script does not say, or comes
from a batch whose canaries came out wrong is no verdict: the script is neither passed nor failed. Schema
after the reason and per criterion: arXiv 2408.02442, 2604.22891 (a bare score hides and flatters).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from voxmake.errors import BadInput, ConfigError
from voxmake.run.config import parse_yaml
from voxmake.writing.engine import EngineError, TextEngine, TextRequest, seed_of
from voxmake.writing.items import Prompter, mark_of
from voxmake.writing.rule import Script, plain
from voxmake.writing.rules import findings

CRITERIA = ("character_voice", "era", "natural_flow", "accuracy")
_LOW_SCORE = 5  # a score of this or less must quote what it is about
_VERDICT_TRIES = 3  # answers that may be no verdict before the script is an error
_BATCH_TRIES = 2  # batches whose canaries may come out wrong before its scripts are errors


class _Criterion(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str = Field(min_length=1)
    evidence: list[str]
    score: int = Field(ge=1, le=10)


_Answer = create_model(
    "Answer", __config__=ConfigDict(extra="forbid"), **{name: (_Criterion, ...) for name in CRITERIA}
)


def schema() -> dict:
    """The JSON Schema of an answer, without references: not every server resolves them."""
    criterion = {
        "type": "object",
        "properties": {
            "reason": {"type": "string"},
            "evidence": {"type": "array", "items": {"type": "string"}},
            "score": {"type": "integer", "minimum": 1, "maximum": 10},
        },
        "required": ["reason", "evidence", "score"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": dict.fromkeys(CRITERIA, criterion),
        "required": list(CRITERIA),
        "additionalProperties": False,
    }


@dataclass(frozen=True)
class Standard:
    """From when on a script passes.

    Attributes:
        weights: of the criteria; they need not add up to 1.
        pass_score: least weighted mean, 1 to 10, by type.
        least_score: no criterion may be below it, whatever the mean.
    """

    weights: dict[str, float]
    pass_score: dict[str, float]
    least_score: int


@dataclass(frozen=True)
class Verdict:
    """A model's judgement: state, weighted mean, and the answer it rests on."""

    state: str
    score: float
    criteria: dict[str, dict]


def read_verdict(answer: str, text: str, kind: str, standard: Standard) -> Verdict | str:
    """A verdict, or in a few words why the answer is none."""
    fenced = re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", answer.strip(), re.DOTALL)
    try:
        data = json.loads(fenced[1] if fenced else answer)
    except (ValueError, RecursionError):
        return f"no JSON: {answer[:40]!r}"
    try:
        found = _Answer.model_validate(data)
    except ValidationError as error:
        fault = error.errors()[0]
        return f"{'.'.join(str(part) for part in fault['loc']) or 'answer'}: {fault['msg']}"
    said = plain(text)
    criteria = {name: getattr(found, name) for name in CRITERIA}
    for name, one in criteria.items():
        quotes = [plain(quote).strip(" .,;!?'\"") for quote in one.evidence]
        if missing := next((quote for quote in quotes if quote not in said), None):
            return f"{name}: quotes what the script does not say: {missing[:40]!r}"
        if one.score <= _LOW_SCORE and not any(quotes):
            return f"{name}: a score of {one.score} without evidence"
    weights = standard.weights
    score = sum(weights[name] * criteria[name].score for name in CRITERIA) / sum(weights[name] for name in CRITERIA)
    fine = score >= standard.pass_score[kind] and min(one.score for one in criteria.values()) >= standard.least_score
    return Verdict(
        "passed" if fine else "failed", round(score, 3), {k: one.model_dump() for k, one in criteria.items()}
    )


@dataclass(frozen=True)
class Canary:
    """A script whose verdict is known."""

    id: str
    expect: str
    script: Script


def read_canaries(path: Path) -> list[Canary]:
    """Canaries of configs/prompts/canaries.yaml.

    Raises:
        ConfigError, BadInput: the file can't be read, or lacks a known good or a known bad one.
    """
    from voxmake.writing.material import Persona

    try:
        data, _ = parse_yaml(path.read_text(encoding="utf-8"), str(path))
        persona = Persona.model_validate(data["persona"]).model_dump(mode="json")
        canaries = [
            Canary(
                str(one["id"]),
                one["expect"],
                Script(
                    one["text"], {"type": "intro", "facts": one["facts"], "min_words": 1, "max_words": 200}, persona
                ),
            )
            for one in data["canaries"]
        ]
    except OSError:
        raise ConfigError(f"{path}: no such file; the audit needs its canaries") from None
    except (KeyError, TypeError, ValidationError) as error:
        raise BadInput(f"{path}: not a list of canaries: {str(error).splitlines()[0]}") from None
    if {canary.expect for canary in canaries} != {"passed", "failed"}:
        raise BadInput(f"{path}: needs canaries that pass and canaries that fail")
    return canaries


def wrong_by_rules(canaries: Sequence[Canary]) -> str:
    """The first canary that the rules judge otherwise than they must, readable; empty if none."""
    for canary in canaries:
        state = "failed" if findings(canary.script) else "passed"
        if state != canary.expect:
            return f"canary {canary.id} {state} by the rules"
    return ""


class Judge:
    """Asks an engine about scripts, canaries among them.

    Args:
        run_seed: each question's seed comes from it, the script's id, the attempt and the try.
    """

    def __init__(
        self, engine: TextEngine, prompter: Prompter, canaries: Sequence[Canary], standard: Standard, run_seed: int
    ):
        self.engine, self.prompter, self.canaries = engine, prompter, canaries
        self.standard, self.run_seed = standard, run_seed

    def judge(self, scripts: Sequence[tuple[str, Script]]) -> list[Verdict | str]:
        """A verdict for each (id, script), or why there is none; canaries decide for all of them."""
        if not scripts:
            return []
        wrong = ""
        for turn in range(_BATCH_TRIES):
            asked = [(f"canary/{canary.id}/{scripts[0][0]}", canary.script) for canary in self.canaries] + list(scripts)
            verdicts = self._ask(asked, turn)
            wrong = self._wrong(verdicts)
            if not wrong:
                return verdicts[len(self.canaries) :]
        return [wrong] * len(scripts)

    def _wrong(self, verdicts: list[Verdict | str]) -> str:
        for canary, verdict in zip(self.canaries, verdicts, strict=False):
            if isinstance(verdict, str):
                return f"canary {canary.id}: {verdict}"
            if verdict.state != canary.expect:
                return f"canary {canary.id} {verdict.state} with {verdict.score:g}"
        return ""

    def _ask(self, scripts: list[tuple[str, Script]], turn: int) -> list[Verdict | str]:
        found: dict[int, Verdict | str] = {}
        for number in range(_VERDICT_TRIES):
            open_ones = [at for at in range(len(scripts)) if not isinstance(found.get(at), Verdict)]
            if not open_ones:
                break
            requests = [self._request(*scripts[at], turn * _VERDICT_TRIES + number) for at in open_ones]
            for at, answer in zip(open_ones, self.engine.generate(requests), strict=True):
                script = scripts[at][1]
                if isinstance(answer, EngineError):
                    found[at] = answer.detail
                else:
                    found[at] = read_verdict(answer.text, script.text, script.item["type"], self.standard)
        return [found[at] for at in range(len(scripts))]

    def _request(self, item_id: str, script: Script, number: int) -> TextRequest:
        seed = seed_of(self.run_seed, f"audit {item_id}", number)
        mark = mark_of(seed)
        values: dict[str, Any] = {
            "persona": script.persona,
            "type": script.item["type"],
            "known": _known(script.facts),
            "lyrics": script.facts.get("lyrics", ""),
            "text": script.text,
        }
        system = self.prompter.render("audit_system", mark, persona=script.persona)
        return TextRequest(item_id, system, self.prompter.render("audit", mark, **values), seed, schema())


def _known(facts: dict) -> str:
    names = (
        "title",
        "artist",
        "year_number",
        "genre",
        "mood",
        "instruments",
        "at",
        "place",
        "sky",
        "temperature",
        "high",
        "low",
    )
    return "\n".join(f"{name}: {facts[name]}" for name in names if facts.get(name) not in (None, ""))
