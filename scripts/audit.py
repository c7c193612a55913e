"""Judge every script before anybody speaks it: by rules that can veto, then by a model if one is configured.

    python scripts/audit.py --config configs/demo.yaml
    make audit CONFIG=configs/demo.yaml SET='audit.attempts=3'
    python scripts/audit.py --config configs/demo.yaml --labels verdicts.csv

Reads the run of generate. A script has passed, failed, or there was an error: an auditor that gives no proper answer
says nothing about the script. Failed ones can be written again with what was wrong (attempts). Writes
metadata.csv, audit/<dj>/<state>/<artist-song>_audit.json and summary.json.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

import generate
from voxmake.errors import BadInput, Rejected
from voxmake.run.digest import digest_of
from voxmake.run.entry import parser, run_stage
from voxmake.run.stage import PROJECT_ROOT, Stage
from voxmake.run.work import Item, Limits
from voxmake.writing import engine, items, material, remember
from voxmake.writing.verdicts import Case, compare, feedback, record, summarise, table_row

if TYPE_CHECKING:
    from voxmake.run.run import Run
    from voxmake.run.worker import Output

PROMPTS = ("audit_system", "audit")


class Audit(engine.TextModel):
    """What a script has to be like, and who or what judges it."""

    engine: Literal["rules", "openai", "transformers"] = Field(
        "rules", description="rules: the deterministic rules alone, without any score; the others ask a model as well"
    )
    temperature: float = Field(0.0, ge=0, le=2, description="0: always the likeliest word")
    max_tokens: int = Field(
        1200, ge=1, le=32768, description="tokens of one answer, thinking included; longer is an error"
    )
    batch_size: int = Field(16, ge=1, le=1024, description="scripts judged at once; each batch has its own canaries")
    prompts: str = Field("configs/prompts", description="folder of audit.j2, audit_system.j2 and canaries.yaml")
    attempts: int = Field(
        1, ge=1, le=10, description="texts per script: failed ones are written again with what was wrong"
    )
    min_pass_rate: float = Field(
        0.8, ge=0, le=1, description="share of the judged scripts that must pass; else the gate says FAIL"
    )
    max_same_opener: int = Field(
        2, ge=1, description="scripts of a host and kind that may begin with the same four words"
    )
    near_duplicate: float = Field(
        0.7, gt=0, le=1, description="similarity (Jaccard, 3 words) from which two scripts are one"
    )
    max_lyric_words: int = Field(6, ge=1, description="words in a row that may be quoted from the lyrics")
    weights: dict[Literal["character_voice", "era", "natural_flow", "accuracy"], float] = Field(
        {"character_voice": 0.3, "era": 0.25, "natural_flow": 0.2, "accuracy": 0.25},
        description="of a model's criteria",
    )
    pass_score: dict[items.Type, float] = Field(
        {"intro": 7.5, "outro": 7.5, "time": 6.0, "weather": 6.5},
        description="least weighted mean of a model's scores, 1 to 10",
    )
    least_score: int = Field(4, ge=1, le=10, description="no criterion may be below it, whatever the mean")
    repeat: int = Field(0, ge=0, description="scripts that a model judges once more, to see whether it says the same")
    labels: str | None = Field(
        None, description="verdicts of people (id,verdict): agreement is in summary.json; see --labels"
    )

    @model_validator(mode="after")
    def _complete(self) -> Audit:
        for name, table, keys in (
            ("weights", self.weights, ("character_voice", "era", "natural_flow", "accuracy")),
            ("pass_score", self.pass_score, ("intro", "outro", "time", "weather")),
        ):
            if missing := set(keys) - set(table):
                raise ValueError(f"{name}: {' '.join(sorted(missing))} missing")
        if min(self.weights.values()) < 0 or sum(self.weights.values()) <= 0:
            raise ValueError("weights: none below 0, and one above it")
        return self


def outside(config: Any) -> dict[str, str]:
    """The content of the prompts, canaries, labels and models that are used."""
    spec = config.audit
    folder = PROJECT_ROOT / spec.prompts
    found = {"canaries": material.digest(folder / "canaries.yaml")}
    if spec.engine != "rules":
        found |= {f"prompt {name}": material.digest(folder / f"{name}.j2") for name in PROMPTS}
    if spec.labels is not None:
        found["labels"] = material.digest(PROJECT_ROOT / spec.labels)
    if spec.attempts > 1:
        found |= {f"writer {name}": value for name, value in engine.model_digest(config.generate).items()}
    return found | engine.model_digest(spec)


def result_keys(config: Any) -> dict:
    """With a second attempt the writer's keys count as well."""
    keys = {key: value for key, value in engine.result_keys(config.audit).items() if key not in ("prompts", "labels")}
    if config.audit.engine != "rules":
        keys["batch_size"] = config.audit.batch_size  # a batch stands and falls with its canaries
    writer = {"writer": generate.result_keys(config)["generate"]} if config.audit.attempts > 1 else {}
    return {"audit": keys} | writer


STAGE = Stage(
    name="audit",
    version=1,
    summary="pass or fail every script by rules and by a model",
    sections={"audit": Audit},
    after=("generate",),
    seeded=True,
    result_keys=result_keys,
    outside=outside,
)

COLUMNS = (
    "id", "file_name", "text", "dj", "type", "name", "artist", "title", "at", "place", "language", "state", "attempt",
    "score", "rules", "words", "engine", "model",
)  # fmt: skip


class Examine:
    """Worker: a group of scripts in, what the rules and the model say of each out."""

    def __init__(self, spec: dict, base_url: str | None, plan: dict, folder: str, seed: int):
        from voxmake.writing import judge

        self.spec, self.base_url, self.plan, self.seed, self.judge = spec, base_url, plan, seed, None
        self.prompter = (
            items.Prompter(items.read_prompts(PROJECT_ROOT / folder, PROMPTS)) if spec["engine"] != "rules" else None
        )
        self.canaries = judge.read_canaries(PROJECT_ROOT / folder / "canaries.yaml")

    def __call__(self, payloads: list[dict], output: Output) -> list[dict | Rejected]:
        """payloads: `key` (id and attempt), `item`, `text`, `found` in the batch. Rows: state, score, findings, criteria."""
        from voxmake.writing import judge, rules

        if wrong := judge.wrong_by_rules(self.canaries):
            return [Rejected("audit_error", wrong)] * len(payloads)
        scripts = [self.script(one) for one in payloads]
        found = [
            [vars(finding) for finding in rules.findings(script)]
            + [{"rule": name, "detail": rules.BATCH_RULES[name], "evidence": twin} for name, twin in one["found"]]
            for one, script in zip(payloads, scripts, strict=True)
        ]
        rows = [
            {"state": "failed" if one else "passed", "score": None, "findings": one, "criteria": None} for one in found
        ]
        if self.prompter is None:
            return rows
        asked = [at for at, one in enumerate(found) if not one]  # a veto needs no second opinion
        verdicts = self.model().judge([(payloads[at]["key"], scripts[at]) for at in asked])
        for at, verdict in zip(asked, verdicts, strict=True):
            if isinstance(verdict, str):
                rows[at] = Rejected("audit_error", verdict)
            else:
                low = [
                    {"rule": name, "detail": one["reason"], "evidence": " / ".join(one["evidence"])}
                    for name, one in verdict.criteria.items()
                    if verdict.state == "failed"
                    and one["score"] < self.spec["pass_score"][payloads[at]["item"]["type"]]
                ]
                rows[at] |= {
                    "state": verdict.state,
                    "score": verdict.score,
                    "criteria": verdict.criteria,
                    "findings": low,
                }
        return rows

    def script(self, payload: dict):
        from voxmake.writing.rule import Script

        personas, item = self.plan["personas"], payload["item"]
        hosts = tuple(one["name"] for name, one in personas.items() if name != item["dj"])
        return Script(
            payload["text"], item, personas[item["dj"]], tuple(self.plan["artists"]), tuple(self.plan["titles"]), hosts,
            self.plan["words_per_s"], self.spec["max_lyric_words"],
        )  # fmt: skip

    def model(self):
        """The model auditor; loaded when the first script gets to it."""
        from voxmake.writing.judge import Judge, Standard

        if self.judge is None:
            standard = Standard(self.spec["weights"], self.spec["pass_score"], self.spec["least_score"])
            asked = engine.load(self.spec, self.base_url)
            self.judge = Judge(asked, self.prompter, self.canaries, standard, self.seed)
        return self.judge


def work(run: Run) -> None:
    spec = run.config.audit
    written = run.inputs["generate"]
    plan = json.loads((written.path / "plan.json").read_text(encoding="utf-8"))
    described = {item["id"]: item for item in plan["items"]}
    cases = {row["id"]: Case(row, described[row["id"]]) for row in written.rows()}
    if run.limit is not None:
        cases = dict(sorted(cases.items())[: run.limit])
    people = labels(run)
    examine(run, plan, cases, {key: case.row["text"] for key, case in cases.items()}, attempt=1)
    for attempt in range(2, spec.attempts + 1):
        if failed := [case for case in cases.values() if case.state == "failed"]:
            examine(run, plan, cases, rewrite(run, plan, failed, attempt), attempt)
    summary = summarise(list(cases.values()))
    summary["repeat_consistency"] = repeat(run, plan, cases)
    if people is not None:
        summary["human"] = compare(cases, people, run.config.seed)
    auditor = generate.described_engine(spec) if spec.engine != "rules" else {"engine": "rules", "model": ""}
    for case in cases.values():
        name = f"audit/{case.item['dj']}/{case.state}/{case.name}_audit.json"
        run.write_json(name, record(case, auditor))
    judged = [case for case in cases.values() if case.state != "error"]
    run.write_table("metadata.csv", COLUMNS, [table_row(case) for case in judged])
    run.write_json("summary.json", summary)
    tell(run, summary)
    run.publish(rows_out=len(judged))


def labels(run: Run) -> dict | None:
    from voxmake.writing.agreement import read_labels

    return None if run.config.audit.labels is None else read_labels(PROJECT_ROOT / run.config.audit.labels)


def examine(run: Run, plan: dict, cases: dict[str, Case], texts: dict[str, str], attempt: int) -> None:
    """Judge one text of each script and add what was found to its history."""
    from voxmake.writing.novelty import repeated

    spec = run.config.audit
    # New texts come behind those that stand: a second attempt must differ from them, not they from it.
    standing = {key: case.last["text"] for key, case in cases.items() if key not in texts and not case.error}
    everything = [(f"{int(key in texts)} {key}", f"{cases[key].item['dj']} {cases[key].item['type']}", text)
                  for key, text in (standing | texts).items()]  # fmt: skip
    twins = repeated(everything, spec.max_same_opener, spec.near_duplicate)
    todo = [
        Item(
            key if attempt == 1 else f"{key}@{attempt}",
            {
                "key": f"{key}@{attempt}",
                "item": cases[key].item,
                "text": text,
                "found": [
                    (name, twin.removeprefix("0 ").removeprefix("1 ")) for name, twin in twins.get(f"1 {key}", [])
                ],
            },
            source=cases[key].row["file_name"],
        )
        for key, text in texts.items()
    ]
    rows = ask(run, plan, todo, again=attempt > 1)
    errors = run.rejections(Examine)
    for item in todo:
        key = item.id.rpartition("@")[0] or item.id
        found = {"attempt": attempt, "text": texts[key]}
        if item.id in rows:
            cases[key].history.append(found | rows[item.id])
        else:
            reason, detail = errors.get(item.id, ("audit_error", "the auditor gave no verdict on this attempt"))
            cases[key].history.append(found | {"state": "error", "error": f"{reason}: {detail}"})
            cases[key].error = f"{reason}: {detail}" if attempt == 1 else cases[key].error


def ask(run: Run, plan: dict, todo: list[Item], again: bool) -> dict[str, dict]:
    spec = run.config.audit
    known = {key: plan[key] for key in ("personas", "artists", "titles", "words_per_s")}
    with generate.server(run, spec) as base_url:
        args = {"spec": spec.model_dump(mode="json"), "base_url": base_url, "plan": known, "folder": spec.prompts,
                "seed": run.config.seed}  # fmt: skip

        def judged(items: list[Item], **options: Any) -> dict[str, dict]:
            return run.map(items, Examine, args, Limits(), "scripts", batch=spec.batch_size, again=again, **options)

        if spec.engine == "rules":  # judged again sooner than looked up
            return judged(todo)
        hosts = [one["name"] for one in plan["personas"].values()]
        general = [STAGE.version, result_keys(run.config), outside(run.config), run.config.seed, hosts]
        names = [plan["artists"], plan["titles"], plan["words_per_s"]]
        keys = {
            item.id: digest_of(general, names, plan["personas"][item.payload["item"]["dj"]], item.payload)
            for item in todo
        }
        return remember.through("verdicts", run, todo, keys, judged, again)


def rewrite(run: Run, plan: dict, failed: list[Case], attempt: int) -> dict[str, str]:
    """New texts of failed scripts, by id; the writer is told what was wrong with every attempt before."""
    spec = run.config.generate
    if (spec.engine == "grammar") != (plan["prompts"] is None):
        raise BadInput(
            "audit.attempts: generate's run was written by another engine than the config names: make it anew"
        )
    todo = [
        Item(
            f"{case.item['id']}@{attempt}",
            {"item": case.item, "attempt": attempt, "feedback": feedback(case)},
            source=case.row["file_name"],
        )
        for case in failed
    ]
    with generate.server(run, spec) as base_url:
        made = generate.write(run, todo, spec, base_url, plan, again=True)
    return {key.rpartition("@")[0]: row["text"] for key, row in made.items()}


def repeat(run: Run, plan: dict, cases: dict[str, Case]) -> dict | None:
    """How often a model says the same of the same text again; None for the rules, which always do."""
    from voxmake.writing.engine import seed_of

    spec = run.config.audit
    if spec.engine == "rules" or not spec.repeat:
        return None
    judged = {key: case for key, case in cases.items() if not case.error and case.last["criteria"] is not None}
    chosen = sorted(judged, key=lambda key: (seed_of(run.config.seed, key, 0), key))[: spec.repeat]
    todo = [
        Item(
            f"{key}@again",
            {"key": f"{key}@again", "item": judged[key].item, "text": judged[key].last["text"], "found": []},
        )
        for key in chosen
    ]
    rows = ask(run, plan, todo, again=True)
    same = sum(rows[f"{key}@again"]["state"] == judged[key].state for key in chosen if f"{key}@again" in rows)
    return {"scripts": len(rows), "same_verdict": same, "share": round(same / len(rows), 4) if rows else None}


def tell(run: Run, summary: dict) -> None:
    """The numbers of stats.json, the gate and the log."""
    for state, told in (
        ("passed", "scripts that may be spoken"),
        ("failed", "scripts with a veto"),
        ("error", "scripts without a verdict"),
    ):
        run.stat(state, summary[state], "scripts", told)
    run.stat("pass_rate", summary["pass_rate"], "1", "share of the judged scripts that passed, after every attempt")
    run.stat("first_pass_rate", summary["first_pass_rate"], "1", "share of the judged scripts whose first text passed")
    run.log.info("%d passed, %d failed, %d errors; first pass rate %s, final %s", *(
        summary[key] for key in ("passed", "failed", "error", "first_pass_rate", "pass_rate")))  # fmt: skip
    run.check("pass_rate", summary["pass_rate"] or 0.0, ">=", run.config.audit.min_pass_rate)


class _Labels(argparse.Action):
    """--labels FILE is --set audit.labels=FILE, with a path that starts where the user stands."""

    def __call__(self, flags, namespace, value, option=None):
        from pathlib import Path

        namespace.assignments = [*namespace.assignments, f"audit.labels={json.dumps(str(Path(value).absolute()))}"]


def main(argv: list[str] | None = None) -> int:
    flags = parser(__doc__)
    flags.add_argument(
        "--labels", action=_Labels, metavar="FILE", help="compare with verdicts of people: CSV with id,verdict"
    )
    return run_stage(STAGE, work, flags, argv)


if __name__ == "__main__":
    raise SystemExit(main())
