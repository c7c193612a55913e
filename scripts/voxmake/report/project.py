"""What the page of a project shows: its graph, every stage's run in numbers, plots and sounds, and what changed since
the run before. Read from the JSON of the runs alone, so a new stage is shown without a line here."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxmake.run.compare import compare
from voxmake.run.run import read_table
from voxmake.run.store import read_manifest

FILES = "report"  # folder beside the page
PLAYERS = 4  # sounds of a stage on the page
_MAX_SOUND_BYTES = 8_000_000
_PLOTS = (".png", ".svg")
_SOUNDS = (".wav", ".flac", ".mp3", ".opus", ".ogg")
_PAGES = (".html", ".md", ".txt", ".tsv", ".csv")
# Folders whose files were made to be listened to; elsewhere an even draw is taken.
_FOR_EARS = ("samples", "cluster_samples", "examples", "sample_")
_NODE_W, _NODE_H, _GAP_X, _GAP_Y, _MARGIN = 158, 46, 18, 34, 6


def base_style() -> str:
    """The style that all pages begin with."""
    return (Path(__file__).parent / "base.css").read_text(encoding="utf-8")


@dataclass
class Stage:
    """One stage of the graph.

    Attributes:
        state: as `make plan` says it.
        run: folder of its run, made or not; after: names of the stages it reads.
    """

    name: str
    summary: str
    state: str
    run: Path
    after: list[str]
    shown: dict[str, Any] = field(default_factory=dict)  # what the template reads; empty if there is no run yet


def describe(stage: Stage, files: Path, against: Path | None) -> None:
    """Fill `stage.shown` from its run; plots and sounds are copied below `files`, a folder beside the page.

    Args:
        against: another run of this stage to compare with, or None.
    """
    record = json.loads((stage.run / "run.json").read_text(encoding="utf-8"))
    stats = json.loads((stage.run / "stats.json").read_text(encoding="utf-8"))
    names = read_manifest(stage.run)
    rejected = Counter(row["reason"] for row in read_table(stage.run / "rejected.csv"))
    stage.shown = {
        "hash": record["hash"],
        "finished": record["finished"][:16].replace("T", " "),
        "seconds": record["seconds"],
        "gate": record["gate"],
        "items": [stats[key]["value"] for key in ("items_in", "items_out", "items_rejected")],
        "stats": [
            {"name": name, **facts, "value": number(facts["value"])}
            for name, facts in stats.items()
            if not name.startswith("items_")
        ],
        "rejected": rejected.most_common(),
        "plots": [{"name": name, "file": copied(stage, name, files)} for name in names if name.endswith(_PLOTS)],
        "sounds": [{"name": name, "file": copied(stage, name, files)} for name in chosen_sounds(names)],
        "pages": [name for name in names if "/" not in name and name.endswith(_PAGES) and name != "rejected.csv"],
        "files": len(names),
        "change": change(stage, record, stats, against, files) if against else None,
    }


def copied(stage: Stage, name: str, files: Path, run: Path | None = None) -> str:
    """Copy one file of a run beside the page; returns its address there."""
    run = run or stage.run
    # The digest keeps names short, apart, and free of what a URL would not take.
    short = hashlib.sha256(name.encode()).hexdigest()[:8]
    target = files / f"{stage.name}-{run.name}" / f"{short}{Path(name).suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run / name, target)
    return f"{FILES}/{target.parent.name}/{target.name}"


def chosen_sounds(files: dict[str, tuple[int, str]]) -> list[str]:
    """Some of a run's sounds, none twice: those made for ears first, then by a draw that new files hardly change."""
    once = {digest: name for name, (size, digest) in reversed(files.items()) if size <= _MAX_SOUND_BYTES}
    found = [name for name in once.values() if name.endswith(_SOUNDS)]

    def order(name: str) -> tuple[bool, str]:
        return not name.startswith(_FOR_EARS), hashlib.sha256(name.encode()).hexdigest()

    return sorted(sorted(found, key=order)[:PLAYERS])


def change(stage: Stage, record: dict, stats: dict, against: Path, files: Path) -> dict[str, Any]:
    """What differs from another run of the stage: keys, numbers, gate, and sounds that both have."""
    old = json.loads((against / "run.json").read_text(encoding="utf-8"))
    old_stats = json.loads((against / "stats.json").read_text(encoding="utf-8"))
    numbers = []
    for name in sorted({*stats, *old_stats}):
        before, now = (known.get(name, {}).get("value") for known in (old_stats, stats))
        if before != now:
            unit = (stats.get(name) or old_stats[name])["unit"]
            numbers.append(
                {"name": name, "before": number(before), "now": number(now), "unit": unit, "by": share(before, now)}
            )
    older = read_manifest(against)
    both = {name: facts for name, facts in read_manifest(stage.run).items() if name in older}
    return {
        "hash": against.name,
        "finished": old["finished"][:16].replace("T", " "),
        "keys": list(compare(old["identity"], record["identity"])),
        "numbers": numbers,
        "gates": (old["gate"]["verdict"], record["gate"]["verdict"]),
        "sounds": [
            {"name": name, "before": copied(stage, name, files, against), "now": copied(stage, name, files)}
            for name in chosen_sounds(both)
        ],
    }


def number(value: Any) -> str:
    """Four digits are enough to compare by eye."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return "" if value is None else str(value)


def share(before: Any, now: Any) -> str:
    if not all(isinstance(value, (int, float)) for value in (before, now)) or not before:
        return ""
    return f"{now / before - 1:+.1%}"


# ---------------------------------------------------------------------------- the graph


def graph(stages: list[Stage]) -> dict[str, Any]:
    """Boxes and lines of the picture: each stage one row below the lowest stage that it reads, sizes in pixels."""
    rows: dict[str, int] = {}
    for stage in stages:  # in the graph's order: what it reads comes first
        rows[stage.name] = max((rows[name] + 1 for name in stage.after), default=0)
    columns: dict[str, float] = {}
    for row in range(max(rows.values()) + 1):
        members = [stage for stage in stages if rows[stage.name] == row]
        # Below the middle of what it reads, as far as its neighbours leave room.
        members.sort(key=lambda stage: sum(columns[name] for name in stage.after) / max(len(stage.after), 1))
        free = 0.0
        for stage in members:
            wanted = sum(columns[name] for name in stage.after) / max(len(stage.after), 1)
            columns[stage.name] = max(wanted, free)
            free = columns[stage.name] + 1
    places = {
        name: (_MARGIN + columns[name] * (_NODE_W + _GAP_X), _MARGIN + rows[name] * (_NODE_H + _GAP_Y)) for name in rows
    }
    above: dict[str, set[str]] = {}  # all that a stage hangs on, by whatever way
    for stage in stages:
        above[stage.name] = {*stage.after}.union(*(above[name] for name in stage.after))
    lines = []
    for stage in stages:
        x, y = places[stage.name]
        for name in stage.after:
            if any(name in above[other] for other in stage.after):
                continue  # there is a longer way already
            x0, y0 = places[name][0] + _NODE_W / 2, places[name][1] + _NODE_H
            bend = (y - y0) / 2
            lines.append(
                f"M{x0:g} {y0:g}C{x0:g} {y0 + bend:g} {x + _NODE_W / 2:g} {y - bend:g} {x + _NODE_W / 2:g} {y:g}"
            )
    return {
        "width": max(x for x, _ in places.values()) + _NODE_W + _MARGIN,
        "height": max(y for _, y in places.values()) + _NODE_H + _MARGIN,
        "box": (_NODE_W, _NODE_H),
        "nodes": [{"stage": stage, "x": places[stage.name][0], "y": places[stage.name][1]} for stage in stages],
        "lines": lines,
    }
