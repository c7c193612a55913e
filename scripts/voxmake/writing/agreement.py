"""How far an auditor agrees with people: Cohen's kappa with a confidence interval.

    id,verdict
    julie/intro/ada-finch-copper-kettle-morning,passed

A column `attempt` says which text was judged; without it the first. Agreement alone flatters: where 90 % pass,
two coins that always say "passed" agree. Kappa is what is left beyond chance (Cohen 1960).
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from voxmake.errors import BadInput

_RESAMPLES = 10_000


def read_labels(path: Path) -> dict[tuple[str, int], str]:
    """(script id, attempt) -> passed or failed, as people judged.

    Raises:
        BadInput: a row that can't be understood, with its line number.
    """
    labels: dict[tuple[str, int], str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if not {"id", "verdict"} <= set(reader.fieldnames or ()):
                raise BadInput(f"{path}:1: needs the columns id and verdict")
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if row["verdict"] not in ("passed", "failed"):
                    raise BadInput(f"{where}: verdict {row['verdict']!r} must be passed or failed")
                attempt = row.get("attempt") or "1"
                if not attempt.isdigit():
                    raise BadInput(f"{where}: attempt {attempt!r} must be a number")
                key = (row["id"], int(attempt))
                if labels.get(key, row["verdict"]) != row["verdict"]:
                    raise BadInput(f"{where}: {row['id']} is labelled twice, and differently")
                labels[key] = row["verdict"]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: can't be read: {error}") from None
    return labels


def agreement(pairs: list[tuple[str, str]], seed: int) -> dict:
    """Kappa of (auditor, human) verdicts.

    Returns:
        scripts, agreement (share), kappa and its 95 % interval (bootstrap percentiles, seeded); kappa is None where both
        say the same of everything. false_passed counts what only the auditor passed.
    """
    table = np.zeros((2, 2))
    for auditor, human in pairs:
        table[int(auditor == "passed"), int(human == "passed")] += 1
    result = {
        "scripts": len(pairs),
        "agreement": round(float(np.trace(table)) / len(pairs), 4) if pairs else None,
        "kappa": None,
        "kappa_95": None,
        "false_passed": int(table[1, 0]),
        "false_failed": int(table[0, 1]),
    }
    kappa = _kappa(table[None])[0] if pairs else np.nan
    if np.isfinite(kappa):
        drawn = np.random.default_rng(seed).multinomial(len(pairs), table.ravel() / table.sum(), _RESAMPLES)
        values = _kappa(drawn.reshape(-1, 2, 2).astype(float))
        low, high = np.nanpercentile(values, [2.5, 97.5])
        result |= {"kappa": round(float(kappa), 4), "kappa_95": [round(float(low), 4), round(float(high), 4)]}
    return result


def _kappa(tables: np.ndarray) -> np.ndarray:
    """Cohen's kappa of each table; shape (n, 2, 2) -> (n,), NaN where chance explains everything."""
    total = tables.sum(axis=(1, 2))
    seen = np.trace(tables, axis1=1, axis2=2) / total
    chance = (tables.sum(axis=2) * tables.sum(axis=1)).sum(axis=1) / total**2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(chance < 1, (seen - chance) / (1 - chance), np.nan)
