"""The deterministic auditor: what no script may do, each rule with an id. One finding is a veto.

The rules know the item's facts, so wrong names, times and numbers are found by comparison, not by taste.
What a rule can't decide (tone, flow) it leaves to a model or a person: there is no score here.
"""

from __future__ import annotations

from collections.abc import Iterator

from voxmake.writing import rules_facts, rules_form
from voxmake.writing.rule import RULES, Finding, Script

__all__ = ["BATCH_RULES", "RULES", "findings", "rules_facts", "rules_form"]  # the last two fill RULES

# Found by comparing scripts with each other (`novelty.py`); listed here so that every rule is.
BATCH_RULES = {
    "repeated_opener": "begins with the same four words as other scripts of this host",
    "near_duplicate": "is nearly the same as another script of this host",
}


def findings(script: Script) -> list[Finding]:
    """Every broken rule of one script, in the order of the rules; empty text breaks only `empty`."""
    if not script.text.strip():
        return [Finding("empty", "there is no text")]
    return [
        Finding(name, meaning, evidence) for name, (meaning, check) in RULES.items() for evidence in _first(check(script))
    ]  # fmt: skip


def _first(found: Iterator[str]) -> list[str]:
    return [one for one in [next(iter(found), None)] if one is not None]
