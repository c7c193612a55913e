"""Questions to a text engine, and answers that have to prove themselves.

An answer that does not follow its form, or quotes what the script does not say, is asked for again with another seed;
after some tries there is no answer, and what hung on it is null. It never becomes a number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from voxmake.calibration.segments import KINDS
from voxmake.calibration.words import words
from voxmake.errors import Rejected
from voxmake.run.work import Item, Limits
from voxmake.writing import engine
from voxmake.writing.engine import Text, TextRequest
from voxmake.writing.items import Prompter, mark_of

if TYPE_CHECKING:
    from voxmake.run.run import Run
    from voxmake.run.worker import Output

_TRIES = 3
MARKS = ("engagement", "clarity", "accuracy")


class Unusable(Exception):
    """An answer that is none, in a few words."""


@dataclass(frozen=True)
class NoAnswer:
    """What stands where an answer was wanted, after all tries."""

    detail: str


class Ask:
    """Worker: a group of requests in, their texts out."""

    def __init__(self, spec: dict, base_url: str | None):
        self.spec, self.base_url = spec, base_url
        self.engine: engine.TextEngine | None = None

    def __call__(self, payloads: list[dict], output: Output) -> list[dict | Rejected]:
        """payloads: the fields of a TextRequest."""
        self.engine = self.engine or engine.load(self.spec, self.base_url)
        answers = self.engine.generate([TextRequest(**one) for one in payloads])
        return [
            {"text": answer.text} if isinstance(answer, Text) else Rejected(answer.kind, answer.detail)
            for answer in answers
        ]


class Asker:
    """Asks the engine of a section; its server, if it has one, runs while it is asked.

    Args:
        serve: (run, section) to a context that gives the address of a launched server, or None.
    """

    def __init__(self, run: Run, spec: Any, serve: Callable):
        self.run, self.spec, self.serve = run, spec, serve

    def ask(self, requests: Sequence[TextRequest], read: Callable[[str, str], Any]) -> dict[str, Any | NoAnswer]:
        """Answers by id of the request.

        Args:
            read: (id, text) to a value; raises Unusable.
        """
        found: dict[str, Any] = {}
        with self.serve(self.run, self.spec) as base_url:
            args = {"spec": self.spec.model_dump(mode="json"), "base_url": base_url}
            for number in range(_TRIES):
                todo = {
                    f"{one.id}@{number}": replace(one, seed=(one.seed + number) & 0x7FFFFFFF)
                    for one in requests
                    if isinstance(found.get(one.id, NoAnswer("")), NoAnswer)
                }
                if not todo:
                    break
                items = [Item(key, asdict(one), source=one.id) for key, one in todo.items()]
                rows = self.run.map(items, Ask, args, Limits(), "answers", batch=self.spec.batch_size, again=True)
                for key, one in todo.items():
                    if key not in rows:
                        found[one.id] = NoAnswer("the text engine gave no answer; the log says why")
                        continue
                    try:
                        found[one.id] = read(one.id, rows[key]["text"])
                    except Unusable as fault:
                        found[one.id] = NoAnswer(str(fault))
                        self.run.log.warning("%s: no usable answer: %s", key, fault)
        return found


class Questions:
    """What is asked, from the prompt templates."""

    def __init__(self, templates: dict[str, str]):
        self.templates = templates
        self.prompter = Prompter(templates)

    def _request(self, name: str, key: str, seed: int, schema: dict | None = None, **values: Any) -> TextRequest:
        mark = mark_of(seed)
        system = self.prompter.render("podcast_system", mark)
        return TextRequest(key, system, self.prompter.render(name, mark, **values), seed, schema)

    def script(self, template: str, key: str, seed: int, document: dict, profile: dict) -> TextRequest:
        figures = "\n".join(f"{one['label']}: {one['caption']}" for one in document["figures"])
        mark = mark_of(seed)
        prompt = Prompter({"podcast": template}).render(
            "podcast", mark, document=document, profile=profile, figures=figures, paper=paper_text(document)
        )
        return TextRequest(key, self.prompter.render("podcast_system", mark), prompt, seed)

    def segments(self, key: str, seed: int, units: Sequence[str]) -> TextRequest:
        numbered = "\n".join(f"{number}. {unit}" for number, unit in enumerate(units, start=1))
        kinds = {"type": "array", "items": {"type": "string", "enum": list(KINDS)}}
        return self._request(
            "podcast_segments", key, seed, _object(kinds=kinds), kinds=KINDS, count=len(units), lines=numbered
        )

    def coverage(self, key: str, seed: int, script: str, concepts: Sequence[dict]) -> TextRequest:
        one = _object(term={"type": "string"}, evidence={"type": ["string", "null"]})
        terms = "\n".join(concept["term"] for concept in concepts)
        schema = _object(concepts={"type": "array", "items": one})
        return self._request("podcast_coverage", key, seed, schema, concepts=terms, script=script)

    def quality(self, key: str, seed: int, script: str, document: dict) -> TextRequest:
        texts = {"type": "array", "items": {"type": "string"}}
        one = _object(
            reason={"type": "string"}, evidence=texts, score={"type": "integer", "minimum": 0, "maximum": 100}
        )
        schema = _object(**dict.fromkeys(MARKS, one))
        return self._request("podcast_judge", key, seed, schema, script=script, paper=paper_text(document))

    def refinement(self, key: str, seed: int, block: str, component: str, feedback: str) -> TextRequest:
        return self._request("podcast_refine", key, seed, block=block, component=component, feedback=feedback)


def _object(**properties: Any) -> dict:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def paper_text(document: dict) -> str:
    """The whole paper, section by section."""
    return "\n\n".join(
        f"{section['heading']}\n{' '.join(section['sentences'])}".strip() for section in document["sections"]
    )


# ---------------------------------------------------------------------------- reading answers


def _json(text: str) -> dict:
    fenced = re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", text.strip(), re.DOTALL)
    try:
        data = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        raise Unusable(f"no JSON: {text[:40]!r}") from None
    if not isinstance(data, dict):
        raise Unusable("no JSON object")
    return data


def read_segments(text: str, count: int) -> list[str]:
    kinds = _json(text).get("kinds")
    if not isinstance(kinds, list) or len(kinds) != count or not all(kind in KINDS for kind in kinds):
        raise Unusable(f"needs {count} known kinds")
    return kinds


def read_coverage(text: str, script: str, concepts: Sequence[dict]) -> list[dict]:
    """Concepts with evidence; a quote that the script does not hold proves nothing, and the concept counts as missed."""
    told = _json(text).get("concepts")
    if not isinstance(told, list) or not all(isinstance(one, dict) for one in told):
        raise Unusable("concepts: no list of objects")
    quotes = {one.get("term"): one.get("evidence") for one in told}
    if missing := [concept["term"] for concept in concepts if concept["term"] not in quotes]:
        raise Unusable(f"concepts: {missing[0]!r} is not in the answer")
    return [
        {"term": one["term"], "evidence": quotes[one["term"]] if says(script, quotes[one["term"]]) else None}
        for one in concepts
    ]


def read_quality(text: str, script: str) -> dict[str, dict]:
    """Reason, evidence and score of each mark."""
    data = _json(text)
    for name in MARKS:
        one = data.get(name)
        if not isinstance(one, dict) or not isinstance(one.get("reason"), str) or not one["reason"].strip():
            raise Unusable(f"{name}: no reason")
        if type(one.get("score")) is not int or not 0 <= one["score"] <= 100:
            raise Unusable(f"{name}: no score of 0 to 100")
        if not isinstance(one.get("evidence"), list):
            raise Unusable(f"{name}: no list of evidence")
        if lost := [quote for quote in one["evidence"] if not says(script, quote)]:
            raise Unusable(f"{name}: quotes what the script does not say: {str(lost[0])[:40]!r}")
    return {name: {key: data[name][key] for key in ("reason", "evidence", "score")} for name in MARKS}


def says(script: str, quote: Any) -> bool:
    """Whether the words of a quote stand in a row in the script; an empty quote says nothing."""
    if not isinstance(quote, str) or not words(quote):
        return False
    return f" {' '.join(words(quote))} " in f" {' '.join(words(script))} "
