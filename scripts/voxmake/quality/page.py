"""The report for people: what is told, once, and two templates that show it as Markdown and as HTML."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voxmake.quality.rules import RULES
from voxmake.quality.spec import Quality
from voxmake.report.project import base_style

_SHOWN = 60  # rows of the table of characters; characters.csv has all
_RARE = 5  # clips; a character in fewer is hardly learnt
_MD_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def contents(
    title: str,
    clips: Sequence[dict[str, Any]],
    suspects: Sequence[dict[str, Any]],
    checks: Sequence[dict[str, Any]],
    groups: dict[str, list[list[int]]],
    spec: Quality,
) -> dict[str, Any]:
    """Everything the templates show, as plain values."""
    import numpy as np

    hours = sum(clip["duration_s"] for clip in clips) / 3600
    facts = [
        ("clips", f"{len(clips)}"),
        ("hours", f"{hours:.2f}"),
        ("speakers", f"{len({clip['speaker'] for clip in clips})}"),
        ("suspect", f"{len(suspects)} ({len(suspects) / len(clips):.0%})"),
    ]
    for name, metric, form in (
        ("median length", "duration_s", "{:.1f} s"),
        ("median speech over noise", "snr_db", "{:.0f} dB"),
        ("median bandwidth", "bandwidth_hz", "{:.0f} Hz"),
        ("median DNSMOS OVRL", "dnsmos_ovrl", "{:.2f}"),
    ):
        if values := [clip[metric] for clip in clips if clip[metric] is not None]:
            facts.append((name, form.format(float(np.median(values)))))
    counts = Counter(code for clip in suspects for code in clip["reasons"])
    shown = suspects[: spec.suspect_top]
    return {
        "title": title,
        "verdict": "PASS" if all(check["passed"] for check in checks) else "FAIL",
        "facts": [{"name": name, "value": value} for name, value in facts],
        "checks": [
            {
                "name": check["name"].replace("_", " "),
                "value": f"{check['value']:.4g}",
                "limit": f"{check['relation'].replace('<=', '≤').replace('>=', '≥')} {check['limit']:g}",
                "verdict": "PASS" if check["passed"] else "FAIL",
            }
            for check in checks
        ],
        "suspects_told": f"{len(suspects)} of {len(clips)} clips are suspect; the {len(shown)} worst are listed below.",
        "reasons": [
            {
                "code": rule.code,
                "clips": counts[rule.code],
                "condition": f"{rule.metric} {'≥' if rule.relation == '>=' else '≤'} {rule.threshold(spec):g}",
                "meaning": rule.meaning,
                "remedy": rule.remedy,
            }
            for rule in sorted(RULES, key=lambda rule: -counts[rule.code])
        ],
        "suspects": [
            {
                "score": clip["score"],
                "id": clip["id"],
                "speaker": clip["speaker"],
                "text": clip["text"],
                "told": told(clip),
            }
            for clip in shown
        ],
        "duplicates": [_kind(name, groups[key], clips) for key, name in _KINDS.items()],
        "tables": [_by("split", clips), _by("speaker", clips), _characters(clips)],
    }


_KINDS = {"text": "the same text", "audio": "the same samples", "near": "the same recording, changed"}


def told(clip: dict[str, Any]) -> list[str]:
    """Each reason of a clip with the value that gave it: "noisy (snr_db 11.2)"."""
    metrics = {rule.code: rule.metric for rule in RULES}
    values = ((code, metrics[code], clip[metrics[code]]) for code in clip["reasons"])
    return [code if value is None else f"{code} ({metric} {value:g})" for code, metric, value in values]


def _kind(name: str, groups: list[list[int]], clips: Sequence[dict[str, Any]]) -> dict[str, Any]:
    largest = sorted(groups, key=lambda group: (-len(group), group[0]))[:5]
    return {
        "name": name,
        "groups": len(groups),
        "clips": sum(len(group) for group in groups),
        "across": sum(len({clips[index]["split"] for index in group}) > 1 for group in groups),
        "largest": [
            ", ".join(clips[index]["id"] for index in group[:4]) + (" …" if len(group) > 4 else "") for group in largest
        ],
    }


def _by(column: str, clips: Sequence[dict[str, Any]]) -> dict[str, Any]:
    rows = []
    names = Counter(clip[column] for clip in clips)
    for name, count in sorted(names.items(), key=lambda item: (-item[1], item[0])):
        chosen = [clip for clip in clips if clip[column] == name]
        minutes = sum(clip["duration_s"] for clip in chosen) / 60
        suspect = sum(bool(clip["reasons"]) for clip in chosen)
        rows.append((name or "(none)", count, f"{minutes:.1f}", suspect, f"{suspect / count:.0%}"))
    return {
        "title": f"By {column}",
        "told": "",
        "left": 1,
        "columns": (column, "clips", "minutes", "suspect", "share"),
        "rows": rows,
    }


def coverage(clips: Sequence[dict[str, Any]]) -> list[tuple[str, str, int, int, bool]]:
    """Characters of the texts: (character, its Unicode name, times, clips that hold it, in train), most frequent first."""
    times, holders, trained = Counter(), Counter(), set()
    for clip in clips:
        text = unicodedata.normalize("NFC", clip["text"])
        times.update(text)
        holders.update(set(text))
        if clip["split"] == "train":
            trained.update(text)
    return [
        (char, unicodedata.name(char, f"U+{ord(char):04X}").lower(), count, holders[char], char in trained)
        for char, count in sorted(times.items(), key=lambda item: (-item[1], item[0]))
    ]


def _characters(clips: Sequence[dict[str, Any]]) -> dict[str, Any]:
    found = coverage(clips)
    untrained = [char for char, _, _, _, in_train in found if not in_train]
    rare = [char for char, _, _, holders, _ in found if holders < _RARE]
    said = f"{len(found)} characters. "
    said += f"In fewer than {_RARE} clips: {_listed(rare)}. In no training clip: {_listed(untrained)}."
    return {
        "title": "Characters",
        "told": f"{said} The rarest come first; characters.csv has all.",
        "left": 2,
        "columns": ("character", "name", "times", "clips", "in train"),
        "rows": [
            (_shown(char), name, times, holders, "yes" if in_train else "no")
            for char, name, times, holders, in_train in found[: -_SHOWN - 1 : -1]
        ],
    }


def _listed(chars: list[str]) -> str:
    return (" ".join(map(_shown, chars[:_SHOWN])) + (" …" if len(chars) > _SHOWN else "")) or "none"


def _shown(char: str) -> str:
    """A character that can be seen: marks on a circle, spaces and controls by their number."""
    category = unicodedata.category(char)
    if category[0] in "ZC":
        return f"U+{ord(char):04X}"
    return f"◌{char}" if category[0] == "M" else char


def render(values: dict[str, Any], template: str) -> str:
    """One of the two templates beside this file."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = _cell
    return environment.get_template(template).render(values, style=base_style())


def _cell(value: Any) -> str:
    """A value as the plain text of one Markdown table cell."""
    return _MD_SPECIAL.sub(r"\\\1", " ".join(str(value).split()))
