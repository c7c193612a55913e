"""Make the page of a project: its graph, and each stage's run in numbers, gates, plots and sounds.

    python scripts/report.py --config configs/demo.yaml
    python scripts/report.py --config configs/demo.yaml --against preprocess/3fa2b1c94d5e
    make report CONFIG=configs/demo.yaml

Writes reports/<project>/index.html and, beside it, report/ with copies of plots and sounds: no server, no
network. Each stage that this project has made before is compared with the last run that differs: config,
numbers, and the same sounds side by side; --against chooses another one.
"""

from __future__ import annotations

import argparse
import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from listen import in_place_of
from plan import plan_all, read_by, state_of
from runs import find_run, published_runs, record_of
from voxmake.errors import REASONS, BadInput, ConfigError, OutputExists
from voxmake.report.project import FILES, Stage, base_style, describe, graph, number
from voxmake.run.entry import config_flags, reporting
from voxmake.run.stage import PROJECT_ROOT, Planned, load_config
from voxmake.run.store import write_atomic

MARK = "<!-- voxmake report -->"


def seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 60 else str(timedelta(seconds=round(value)))


def last_other(planned: Planned, project: str) -> Path | None:
    """The newest other run of this stage that was made for this project."""
    found = [
        (record["finished"], run)
        for run in published_runs()
        if run.parent.name == planned.stage.name and run.name != planned.hash12
        if (record := record_of(run))["config"]["project"] == project
    ]
    return max(found)[1] if found else None


def chosen(args: argparse.Namespace, known: dict[str, Planned]) -> dict[str, Path]:
    """Stage name -> the run that --against names for it."""
    runs = {}
    for text in args.against:
        run = find_run(text)
        if run.parent.name not in known:
            raise ConfigError(f"--against {text}: this config has no stage {run.parent.name!r}")
        runs[run.parent.name] = run
    return runs


def render(values: dict[str, Any], folder: Path) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = PROJECT_ROOT / "scripts" / "voxmake" / "report"
    environment = Environment(loader=FileSystemLoader(templates), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {
        "seconds": seconds,
        "number": number,
        # As seen from the page: it works from file://, and in a container that has both folders.
        "address": lambda run: os.path.relpath(run, folder),
    }
    template = environment.get_template("project.html.j2")
    return template.render(values, mark=MARK, style=base_style(), reasons=REASONS)


def make(args: argparse.Namespace) -> None:
    log = logging.getLogger("report")
    config = load_config(args.config, args.assignments)
    if not config.stages:
        raise ConfigError(f"{args.config}: stages: is empty; list what the project makes")
    folder = (args.output or PROJECT_ROOT / "reports" / config.project).absolute()
    page = folder / "index.html"
    if page.exists() and MARK not in page.read_text(encoding="utf-8")[:200]:
        raise OutputExists(f"{page} is something else than a report: name another --output")
    known = plan_all(config, config.stages)
    stages = [
        Stage(name, planned.stage.summary, state_of(planned), planned.path, read_by(planned))
        for name, planned in known.items()
    ]
    against = chosen(args, known)
    with in_place_of(folder / FILES) as files:
        for stage in stages:
            if known[stage.name].done:
                other = against.get(stage.name) or last_other(known[stage.name], config.project)
                describe(stage, files, other)
        shown = [stage for stage in stages if stage.shown]
        if not shown:
            raise BadInput(f"nothing to report yet: run `make all CONFIG={args.config}` first")
    values = {
        "project": config.project,
        "config": args.config,
        "stages": stages,
        "graph": graph(stages),
        "done": len(shown),
        "failed": sum(stage.state == "FAILED" for stage in stages),
        "spent": seconds(sum(stage.shown["seconds"] for stage in shown)),
        "listen": (folder / "listen" / "index.html").is_file(),
    }
    write_atomic(page, render(values, folder))
    log.info("%d of %d stages: open %s", len(shown), len(stages), page)


def main(argv: list[str] | None = None) -> int:
    first, _, rest = __doc__.partition("\n")
    flags = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    config_flags(flags)
    flags.add_argument(
        "--against", action="append", default=[], metavar="RUN", help="compare with this run; may be repeated"
    )
    flags.add_argument("--output", type=Path, metavar="DIR", help="write here (default: reports/PROJECT)")
    flags.add_argument("--verbose", action="store_true", help="show tracebacks")
    args = flags.parse_args(argv)
    with reporting("report", args.verbose) as ended:
        make(args)
    return ended.code


if __name__ == "__main__":
    raise SystemExit(main())
