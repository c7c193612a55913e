"""Make the listening room: one page to hear suspects, samples, speakers and what a recogniser misheard, and to say what is wrong.

    python scripts/listen.py --config configs/demo.yaml
    make listen CONFIG=configs/demo.yaml

Reads the runs that the config names (segment, diarize, prepare_dataset, quality_report, whisper_validate; those
that are there) and writes reports/<project>/listen/: open its index.html in any browser. What you decide there
is saved as corrections.csv; name it in review.corrections and make diarize and prepare_dataset again.
See docs/listening-room.md.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from voxmake.errors import BadInput, ConfigError, OutputExists
from voxmake.report.listen.room import CLIPS, DIARIZE, PREPARE, QUALITY, VALIDATE
from voxmake.run.entry import config_flags, reporting
from voxmake.run.stage import PROJECT_ROOT, Planned, load_config, plan_stage
from voxmake.run.store import Lock

# What the page lacks without a stage's run.
WITHOUT = {
    DIARIZE: "so no speakers",
    PREPARE: "so no splits, no normalised texts",
    QUALITY: "so no suspects, and clips drawn at random for samples",
    VALIDATE: "so nothing of what a recogniser hears",
}


def plan(config: Any) -> dict[str, Planned]:
    """The runs that this config asks for, made or not: those of the clips and of what was found out about them."""
    known: dict[str, Planned] = {}
    found = {name: plan_stage(name, config, known) for name in WITHOUT if name != VALIDATE}
    with suppress(ConfigError):  # the recogniser's model may lie on another machine: then the page does without
        found[VALIDATE] = plan_stage(VALIDATE, config, known)
    return {CLIPS: plan_stage("segment", config, known), **found}


def read_runs(planned: dict[str, Planned]) -> dict[str, Path]:
    """The folders of those that are made, checked against their manifests."""
    from voxmake.run.run import open_input

    runs = {name: open_input(one).path for name, one in planned.items() if one.done}
    if CLIPS not in runs and PREPARE not in runs:
        raise BadInput(f"nothing to listen to yet: run `make {QUALITY}` with this config first")
    return runs


def facts(config: Any, planned: dict[str, Planned], runs: dict[str, Path]) -> dict[str, Any]:
    """What the page says of itself. The key names these runs: verdicts belong to what was heard."""
    from voxmake.review import read_corrections

    hashes = [f"{planned[name].stage.name}/{planned[name].hash12}" for name in runs]
    path = read_corrections(config).path  # reads it all: a faulty file is named before the page is made
    return {
        "project": config.project,
        "key": hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:12],
        "runs": hashes,
        "missing": [{"stage": name, "lacks": lacks} for name, lacks in WITHOUT.items() if name not in runs],
        "corrections": path.read_text(encoding="utf-8-sig") if path else "",
        "corrections_path": config.review.corrections or f"configs/{config.project}.corrections.csv",
    }


@contextmanager
def in_place_of(folder: Path) -> Iterator[Path]:
    """An empty folder to write to, which takes the place of `folder` when all went well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder.with_name(f".lock-{folder.name}"))
    made, old = (folder.with_name(f".{folder.name}-{kind}") for kind in ("new", "old"))
    try:
        for left_over in (made, old):  # by a run that was killed
            shutil.rmtree(left_over, ignore_errors=True)
        made.mkdir()
        yield made
        if folder.exists():
            folder.rename(old)
        made.rename(folder)
    finally:
        for left_over in (made, old):
            shutil.rmtree(left_over, ignore_errors=True)
        lock.release()


def may_replace(folder: Path) -> None:
    from voxmake.report.listen.page import MARK

    index = folder / "index.html"
    if folder.exists() and not (index.is_file() and MARK in index.read_text(encoding="utf-8")[:200]):
        raise OutputExists(f"{folder} holds something else than a listening room: name another --output")


def make(args: argparse.Namespace) -> None:
    from voxmake.report.listen.page import write_room
    from voxmake.report.listen.room import read_room

    log = logging.getLogger("listen")
    config = load_config(args.config, args.assignments)
    folder = (args.output or PROJECT_ROOT / "reports" / config.project / "listen").absolute()
    may_replace(folder)
    planned = plan(config)
    runs = read_runs(planned)
    room = read_room(runs, config.seed, args.random)
    told = facts(config, planned, runs)
    with in_place_of(folder) as made:
        write_room(made, room, told)
    log.info("%d clips, %d speakers: open %s", len(room.clips), len(room.speakers), folder / "index.html")


def main(argv: list[str] | None = None) -> int:
    first, _, rest = __doc__.partition("\n")
    flags = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    config_flags(flags)
    flags.add_argument("--output", type=Path, metavar="DIR", help="write here (default: reports/PROJECT/listen)")
    flags.add_argument(
        "--random", type=int, default=30, metavar="N", help="clips to draw when there is no quality report (default 30)"
    )
    flags.add_argument("--verbose", action="store_true", help="show tracebacks")
    args = flags.parse_args(argv)
    if args.random < 1:
        flags.error("--random: must be 1 or more")
    with reporting("listen", args.verbose) as ended:
        make(args)
    return ended.code


if __name__ == "__main__":
    raise SystemExit(main())
