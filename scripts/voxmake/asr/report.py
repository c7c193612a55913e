"""The reports of whisper_validate: verdict, summary and one folder for each shard. No times: equal runs, equal bytes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from voxmake.asr.scoring import CLASSES
from voxmake.asr.spec import Validate

_PROBLEM_COLUMNS = ("id", "file_name", "class", "similarity", "cer", "wer", "text", "hypothesis")


def shard_of(item_id: str, shards: int) -> int:
    """The shard of a clip: by its id alone, so that neither workers nor other clips move it."""
    return int(hashlib.sha256(item_id.encode()).hexdigest(), 16) % shards


@dataclass(frozen=True)
class Verdict:
    """Numbers that the gate judges by, and its limits.

    Attributes:
        mean: similarity; low_ratio: share of clips below min_similarity. Of clips that were recognised.
    """

    mean: float
    low_ratio: float
    least_mean: float
    below_ratio: float
    most_failed_shards: int

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]], spec: Validate, sampled: bool) -> Verdict:
        values = [row["similarity"] for row in rows if row["class"] != "error"]
        count = max(len(values), 1)
        return cls(
            round(sum(values) / count, 6),
            round(sum(value < spec.min_similarity for value in values) / count, 6),
            spec.gate_sample_mean_similarity if sampled else spec.gate_mean_similarity,
            spec.gate_sample_low_ratio if sampled else spec.gate_low_ratio,
            spec.gate_failed_shards,
        )

    def checks(self, failed: int) -> list[tuple[str, float, str, float]]:
        """(name, value, relation, limit) of each condition; `failed`: shards with clips that were not recognised."""
        return [
            ("mean_similarity", self.mean, ">=", self.least_mean),
            ("low_similarity_ratio", self.low_ratio, "<", self.below_ratio),
            ("failed_shards", failed, "<=", self.most_failed_shards),
        ]


def failed_shards(rows: Iterable[dict[str, Any]]) -> int:
    return len({row["shard"] for row in rows if row["class"] == "error"})


def tsv(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    """A table for people: tabs between the cells, none in them, and no cell that a spreadsheet would run."""

    def cell(value: Any) -> str:
        text = "" if value is None else " ".join(str(value).split())
        return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text

    lines = ["\t".join(columns), *("\t".join(cell(row.get(column)) for column in columns) for row in rows)]
    return "\n".join(lines) + "\n"


def asr_sample(rows: Iterable[dict[str, Any]]) -> str:
    """asr_sample.tsv: reference and hypothesis side by side."""
    return tsv(
        ("id", "ref", "hyp", "similarity"), (row | {"ref": row["text"], "hyp": row.get("hypothesis")} for row in rows)
    )


def summary(rows: Sequence[dict[str, Any]], verdict: Verdict, checks: Sequence[dict[str, Any]], engine: str) -> str:
    """SUMMARY.txt."""
    passed = all(check["passed"] for check in checks)
    lines = [f"{'PASS' if passed else 'FAIL'}: {len(rows)} clips, recogniser {engine}", ""]
    for check in checks:
        state = "ok  " if check["passed"] else "FAIL"
        lines.append(f"{state} {check['name']} {check['value']:g}, must be {check['relation']} {check['limit']:g}")
    counts = Counter(row["class"] for row in rows)
    lines += ["", *(f"{kind:<15}{counts[kind]:>8}" for kind in CLASSES)]
    return "\n".join(lines) + "\n"


def shard_files(rows: Sequence[dict[str, Any]], spec: Validate) -> dict[str, str]:
    """shard_reports/shard_N/: a line of log for each clip, a page with the verdict, a table of the problems."""
    files = {}
    for shard in range(spec.shards):
        members = [row for row in rows if row["shard"] == shard]
        verdict = Verdict.of(members, spec, sampled=spec.sample is not None)
        folder = f"shard_reports/shard_{shard}"
        files[f"{folder}/validator_whisper.log"] = _log(members)
        files[f"{folder}/validation_{shard}.md"] = _page(shard, members, verdict)
        problems = sorted(
            (row for row in members if row["passed"] == "no"), key=lambda row: (row.get("similarity", -1.0), row["id"])
        )
        files[f"{folder}/validation_{shard}.tsv"] = tsv(_PROBLEM_COLUMNS, problems)
    return files


def _log(rows: Sequence[dict[str, Any]]) -> str:
    lines = []
    for number, row in enumerate(rows, start=1):
        similarity = f"{row['similarity']:.3f}" if "similarity" in row else "-"
        texts = " | ".join(" ".join(row.get(name, "").split()) for name in ("text", "hypothesis"))
        lines.append(f"[{number}/{len(rows)}] {row['id']} similarity={similarity} {row['class']}: {texts}\n")
    return "".join(lines)


def _page(shard: int, rows: Sequence[dict[str, Any]], verdict: Verdict) -> str:
    errors = sum(row["class"] == "error" for row in rows)
    failed = [
        f"{name} is {value:g}, must be {relation} {limit:g}"
        for name, value, relation, limit in verdict.checks(int(errors > 0))
        if not {">=": value >= limit, "<": value < limit, "<=": value <= limit}[relation]
    ]
    counts = Counter(row["class"] for row in rows)
    lines = [
        f"# Shard {shard}: {'FAIL' if failed and rows else 'PASS'}",
        "",
        *(f"- {reason}" for reason in failed if rows),
        f"- {len(rows)} clips, mean similarity {verdict.mean:.3f}, {100 * verdict.low_ratio:.1f} % low, {errors} not recognised",
        "",
        "| class | clips | meaning |",
        "|---|---|---|",
        *(f"| {kind} | {counts[kind]} | {meaning} |" for kind, meaning in CLASSES.items()),
    ]
    return "\n".join(lines) + "\n"
