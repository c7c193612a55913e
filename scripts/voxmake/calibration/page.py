"""index.html of a calibration: what fell, what changed, and everything to listen to. One file beside the audio, no network."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxmake.calibration.guidance import block_of
from voxmake.calibration.losses import COMPONENTS

if TYPE_CHECKING:
    from voxmake.calibration.loop import Course
    from voxmake.calibration.pairs import Pair
    from voxmake.calibration.trials import Trial
    from voxmake.run.run import Run

# Of one chart, in SVG units; the page scales it.
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 320, 170, 38, 14, 14, 26


def write_page(
    run: Run, report: dict[str, Any], course: Course, unseen: dict[str, Trial], pairs: Sequence[Pair]
) -> None:
    from jinja2 import Environment, StrictUndefined

    # What stands in papers and transcripts is somebody else's: everything is escaped.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8"))
    trials = [*course.trials, *unseen.values()]
    shown = {
        "project": run.config.project,
        "report": report,
        "facts": facts(report),
        "charts": [chart("total", [one["total"] for one in report["trials"]], kept(report), report["noise"]["floor"])]
        + [chart(name, [one["components"][name] for one in report["trials"]], kept(report)) for name in COMPONENTS],
        "rows": [
            {"trial": one, "values": [number(one["components"][name]) for name in COMPONENTS], "total": number(one["total"])}
            for one in report["trials"]
        ],
        "components": COMPONENTS,
        "held": held_rows(report),
        "diffs": diffs(course),
        "best": block_of(course.winner.template),
        "pairs": [about(pair, trials, report) for pair in pairs],
    }  # fmt: skip
    run.write_text("index.html", template.render(shown))


def number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    held = report["hold_out"]
    told = [
        ("loss of the first prompt", number(report["first_total"])),
        ("loss of the best prompt", number(report["best_total"])),
        ("noise floor", f"{report['noise']['floor']:.4f}"),
        ("trials", str(len(report["trials"]))),
    ]
    if held:
        told.append(("hold-out, first to best", f"{number(held['first_total'])} → {number(held['best_total'])}"))
    return told


def kept(report: dict[str, Any]) -> list[bool]:
    return [one["kept"] for one in report["trials"]]


def chart(name: str, values: Sequence[float | None], standing: Sequence[bool], noise: float = 0.0) -> dict[str, Any]:
    """Points of one loss over the trials, in SVG units.

    Args:
        standing: whether each trial was kept.
        noise: floor around the first value, drawn as a band; 0: none.
    """
    known = [value for value in values if value is not None]
    top = max([*known, 0.05]) * 1.15
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(values) - 1)

    def down(value: float) -> float:
        return round(_TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - value / top), 1)

    points = [
        {"x": round(_LEFT + step * at, 1), "y": down(value), "kept": standing[at], "trial": at, "value": f"{value:.3f}"}
        for at, value in enumerate(values)
        if value is not None
    ]
    band = None
    if noise and known and values[0] is not None:
        upper, lower = down(min(top, values[0] + noise)), down(max(0.0, values[0] - noise))
        band = {"y": upper, "height": round(max(1.0, lower - upper), 1)}
    return {
        "name": name,
        "points": points,
        "path": " ".join(f"{one['x']},{one['y']}" for one in points),
        "band": band,
        "ticks": [{"y": down(value), "label": f"{value:.2f}"} for value in (0.0, top / 2, top)],
        "trials": [{"x": round(_LEFT + step * at, 1), "label": str(at)} for at in range(len(values))],
        "size": (_WIDTH, _HEIGHT),
        "left": _LEFT,
        "right": _WIDTH - _RIGHT,
        "told": ", ".join(f"trial {one['trial']}: {one['value']}" for one in points) or "not measured",
    }


def held_rows(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Component, first, best of the hold-out."""
    if not (held := report["hold_out"]):
        return []
    rows = [(name, number(held["first"][name]), number(held["best"][name])) for name in COMPONENTS]
    return [*rows, ("total", number(held["first_total"]), number(held["best_total"]))]


def diffs(course: Course) -> list[dict[str, Any]]:
    """What each trial changed in the guidance of the prompt that it came from."""
    found = []
    for number_, trial in enumerate(course.trials[1:], start=1):
        parent = course.trials[course.best[number_ - 1]]
        lines = list(
            difflib.ndiff(block_of(parent.template).splitlines(), block_of(trial.template).splitlines())
        )  # fmt: skip
        found.append(
            {
                "name": trial.name,
                "parent": parent.name,
                "kept": course.best[number_] == number_,
                "change": trial.change,
                "lines": [
                    {"mark": line[0], "kind": {"+": "added", "-": "gone"}.get(line[0], "same"), "text": line[2:]}
                    for line in lines
                    if line[0] != "?"
                ],
            }
        )
    return found


def about(pair: Pair, trials: Sequence[Trial], report: dict[str, Any]) -> dict[str, Any]:
    """One pair: the reference, and what each trial made of it."""
    made = []
    for trial in trials:
        if (one := trial.pairs.get(pair.id)) is None:
            continue
        marks = one["quality"]["marks"] or {}
        made.append(
            {
                "name": trial.name,
                "audio": one["audio"],
                "script": trial.scripts.get(pair.id, ""),
                "facts": [("total", number(one["total"])), *((n, number(one["components"][n])) for n in COMPONENTS)],
                "order": chips(one["order"], one["shares"]),
                "concepts": one["concepts"] or [],
                "quality": [
                    {"name": name, "mark": mark if isinstance(mark, float) else f"{mark['score']}: {mark['reason']}"}
                    for name, mark in marks.items()
                ],
                "notes": one["not_measured"],
            }
        )
    return {
        "id": pair.id,
        "title": pair.document["title"],
        "hold_out": pair.id in report["pairs"]["hold_out"],
        "duration": f"{pair.duration_s:.0f}",
        "order": chips(pair.structure["order"], pair.structure["shares"]) if pair.structure else [],
        "style": pair.style,
        "text": pair.text,
        "dropped": pair.document["dropped"],
        "made": made,
    }


def chips(order: Sequence[str] | None, shares: dict[str, float] | None) -> list[tuple[str, str]]:
    """Parts in order, each with the share of the words that its kind has."""
    return [(kind, f"{100 * shares[kind]:.0f} %") for kind in order or []]
