"""Resolve a config into the graph of its runs: as a makefile, as a table, or as a reason why.

    python scripts/plan.py make --config configs/demo.yaml      # writes data/.plans/….mk, prints its name
    python scripts/plan.py show --config configs/demo.yaml      # what is done, in work, to do
    python scripts/plan.py why  --config configs/demo.yaml --stage preprocess

Make includes the file that `make` writes. Its targets carry the hash of the run in their names, so
`make -n` and `make -q` tell the truth, a changed key reruns exactly what depends on it, and going
back to the old value finds the old run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
from typing import Any

from voxmake.errors import ConfigError
from voxmake.run.compare import compare
from voxmake.run.entry import config_flags, reporting
from voxmake.run.stage import (
    PROJECT_ROOT,
    STAGES,
    Planned,
    data_root,
    link_project,
    load_config,
    plan_stage,
    serving_stage,
)
from voxmake.run.store import MANIFEST, Lock, write_atomic


def plan_all(config: Any, names: list[str]) -> dict[str, Planned]:
    """Every run that these stages need, by stage name, in the order of the graph."""
    known: dict[str, Planned] = {}
    for name in names:
        plan_stage(name, config, known)
    return dict(sorted(known.items(), key=lambda item: STAGES.index(item[0])))


# ---------------------------------------------------------------------------- make


def write_makefile(args: argparse.Namespace, config: Any) -> None:
    known = plan_all(config, args.stages or config.stages)
    wanted = {serving_stage(name, config) for name in config.stages}
    lines = [f"# Made by scripts/plan.py from {args.config}. Do not edit: make writes it anew.", ""]
    targets = {name: _make_word(str(planned.path / MANIFEST)) for name, planned in known.items()}
    lines += [".PHONY: all " + " ".join(STAGES), "all: " + " ".join(targets[name] for name in known if name in wanted)]
    for name in STAGES:
        if (server := serving_stage(name, config)) in targets:
            lines.append(f"{name}: {targets[server]}")
    # A finished run never becomes stale: its name says what it is made of. Hence order-only (|)
    # prerequisites: a run is made when it is missing, whatever the times of the files say.
    lines += [".PRECIOUS: " + " ".join(targets.values()), ""]
    flags = ["--config", str(args.config), *(part for text in args.assignments for part in ("--set", text))]
    for name, planned in known.items():
        read = read_by(planned)
        upstream = [targets[other] for other in read]
        gates = [f"gate-{other}" for other in read if failed_gate(known[other])]
        command = shlex.join([f"scripts/{name}.py", *flags, "--output", str(planned.path)])
        lines += [
            f"{targets[name]}: | {' '.join(upstream + gates)}".rstrip(),
            f"\t@$(call in_environment,{planned.stage.environment}) {command.replace('$', '$$')}",
            "",
        ]
    for name, planned in known.items():
        if failed := failed_gate(planned):
            message = shlex.quote(f"{name}: gate FAIL: {failed} ({planned.path})").replace("$", "$$")
            lines += [f".PHONY: gate-{name}", f"gate-{name}:", f"\t@echo {message} >&2; exit 1", ""]
    text = "\n".join(lines) + "\n"
    folder = data_root() / ".plans"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.mk"
    if not path.exists():
        write_atomic(path, text)
    for planned in known.values():
        if planned.done and not args.no_links:
            link_project(config.project, planned)
    print(path)


def read_by(planned: Planned) -> list[str]:
    """The stages whose runs this one reads: a stage may be served by another one."""
    return [upstream.stage.name for upstream in planned.inputs.values()]


def failed_gate(planned: Planned) -> str:
    """The checks of a finished run's gate that failed, readable; empty if it passed or isn't made."""
    if not planned.done:
        return ""
    gate = json.loads((planned.path / "run.json").read_text(encoding="utf-8"))["gate"]
    failed = [check for check in gate["checks"] if not check["passed"]]
    return "; ".join(f"{c['name']} is {c['value']:g}, must be {c['relation']} {c['limit']:g}" for c in failed)


def _make_word(path: str) -> str:
    """A path as a make target; make 4.3 can't have white space in one."""
    if any(character.isspace() for character in path):
        raise ConfigError(
            f"{path}: make can't work in a folder with a space in its name; move the project or set VOXMAKE_DATA"
        )
    return "".join({"$": "$$", "#": "\\#", "%": "\\%", ":": "\\:"}.get(character, character) for character in path)


# ---------------------------------------------------------------------------- show, why


def state_of(planned: Planned) -> str:
    """done, FAILED (its gate), running, interrupted (resumable), or to do."""
    if planned.done:
        return "FAILED" if failed_gate(planned) else "done"
    if Lock.is_held(planned.path.with_name(f".lock-{planned.hash12}")):
        return "running"
    return "interrupted" if planned.path.with_name(f".tmp-{planned.hash12}").exists() else "to do"


def show_plan(args: argparse.Namespace, config: Any) -> None:
    known = plan_all(config, args.stages or config.stages)
    print(f"{'stage':<18}{'run':<14}{'state':<13}{'items':>8}{'rejected':>10}  after")
    for name, planned in known.items():
        stats = json.loads((planned.path / "stats.json").read_text(encoding="utf-8")) if planned.done else {}
        counts = [stats.get(key, {}).get("value", "") for key in ("items_out", "items_rejected")]
        after = ", ".join(read_by(planned)) or "-"
        print(f"{name:<18}{planned.hash12:<14}{state_of(planned):<13}{counts[0]:>8}{counts[1]:>10}  {after}")


def show_why(args: argparse.Namespace, config: Any) -> None:
    """What differs between the run that the config names and the last run of the same project."""
    known = plan_all(config, args.stages or config.stages)
    for name, planned in known.items():
        print(f"{name} {planned.hash12}: {state_of(planned)}")
        link = data_root() / "projects" / config.project / name
        if not (link / "run.json").is_file():
            print("  no earlier run in this project")
            continue
        record = json.loads((link / "run.json").read_text(encoding="utf-8"))
        differences = list(compare(record["identity"], planned.identity))
        print("\n".join(f"  {line}" for line in differences) or f"  nothing differs from {record['hash']}")


def main(argv: list[str] | None = None) -> int:
    first, _, rest = __doc__.partition("\n")
    flags = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("verb", choices=("make", "show", "why"))
    config_flags(flags)
    flags.add_argument(
        "--stage", action="append", default=[], dest="stages", choices=STAGES, help="only this stage and what it needs"
    )
    flags.add_argument("--no-links", action="store_true", help="leave data/projects/ as it is (make -n, make -q)")
    args = flags.parse_args(argv)
    os.chdir(PROJECT_ROOT)
    with reporting("plan", verbose=False) as ended:
        config = load_config(args.config, args.assignments)
        if not (args.stages or config.stages):
            raise ConfigError(f"{args.config}: stages: is empty; list what `make all` is to run, e.g. [preprocess]")
        {"make": write_makefile, "show": show_plan, "why": show_why}[args.verb](args, config)
    return ended.code


if __name__ == "__main__":
    raise SystemExit(main())
