"""What becomes of each script under audit: its attempts, its state, and the records that tell of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Case:
    """One script on its way: its row in generate's table, its item, and every attempt with its verdict."""

    row: dict
    item: dict
    history: list[dict] = field(default_factory=list)
    error: str = ""  # why its first text has no verdict

    @property
    def state(self) -> str:
        return "error" if self.error else self.last["state"]

    @property
    def last(self) -> dict:
        """The attempt that counts: the one that passed, or the last one with a verdict."""
        return [one for one in self.history if one["state"] != "error"][-1]

    @property
    def name(self) -> str:
        kind = self.item["type"]
        return self.item["name"] if kind == "intro" else f"{self.item['name']}_{kind}"


def feedback(case: Case) -> list[str]:
    """What was wrong, one line each; of a quote only so much as shows what is meant."""
    lines = [
        f"{finding['detail']}" + (f" ({finding['evidence'][:60]})" if finding["evidence"] else "")
        for one in case.history
        for finding in one.get("findings", [])
    ]
    return list(dict.fromkeys(line.replace("\n", " ") for line in lines))


def summarise(cases: list[Case]) -> dict:
    """summary.json. Rates are shares of the scripts with a verdict; errors are counted, never scored."""

    def tally(some: list[Case]) -> dict:
        return {state: sum(case.state == state for case in some) for state in ("passed", "failed", "error")}

    def by(name: str) -> dict:
        return {key: tally([c for c in cases if c.item[name] == key]) for key in sorted({c.item[name] for c in cases})}

    count = tally(cases)
    judged = count["passed"] + count["failed"]
    first = sum(case.history[0]["state"] == "passed" for case in cases)
    issues = Counter(
        name for case in cases for one in case.history for name in {f["rule"] for f in one.get("findings", [])}
    )
    return {
        "total_scripts": len(cases),
        **count,
        "pass_rate": round(count["passed"] / judged, 4) if judged else None,
        "first_pass_rate": round(first / judged, 4) if judged else None,
        "attempts": sum(len(case.history) for case in cases),
        "by_dj": by("dj"),
        "by_type": by("type"),
        "common_issues": [
            {"issue": name, "count": n} for name, n in sorted(issues.items(), key=lambda one: (-one[1], one[0]))
        ],
    }


def compare(cases: dict[str, Case], people: dict, seed: int) -> dict:
    """Agreement with people on the texts that they judged; an error is no verdict and is left out."""
    from voxmake.writing.agreement import agreement

    mine = {
        (key, one["attempt"]): one["state"]
        for key, case in cases.items()
        for one in case.history
        if one["state"] != "error"
    }
    pairs = [(mine[key], verdict) for key, verdict in sorted(people.items()) if key in mine]
    return agreement(pairs, seed) | {"labels_without_a_verdict": len(people) - len(pairs)}


def record(case: Case, auditor: dict[str, str]) -> dict:
    """<artist-song>_audit.json: the verdict, what it rests on, and every attempt."""
    counts = case.history[0] if case.error else case.last
    return {
        "id": case.item["id"],
        "dj": case.item["dj"],
        "type": case.item["type"],
        "state": case.state,
        "error": case.error or None,
        "text": counts["text"],
        "attempt": counts["attempt"],
        "score": counts.get("score"),
        "findings": counts.get("findings", []),
        "criteria": counts.get("criteria"),
        "auditor": auditor,
        "writer": {"engine": case.row["engine"], "model": case.row["model"]},
        "attempts": case.history,
    }


def table_row(case: Case) -> dict:
    last = case.last
    return case.row | {
        "text": last["text"],
        "state": case.state,
        "attempt": last["attempt"],
        "score": last["score"],
        "rules": " ".join(dict.fromkeys(finding["rule"] for finding in last["findings"])),
        "words": len(last["text"].split()),
        "file_name": f"audit/{case.item['dj']}/{case.state}/{case.name}_audit.json",
    }
