"""How every stage script starts and ends: flags, config, hash, lock, log, exit code."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxmake.errors import BadInput, ConfigError, Failure, OutputExists

if TYPE_CHECKING:
    from voxmake.run.run import Run
    from voxmake.run.stage import Planned, Stage


def parser(doc: str) -> argparse.ArgumentParser:
    """The flags that every stage script takes; a script adds its own to it.

    Args:
        doc: the script's docstring: the first line becomes the description, the rest the epilogue.
    """
    first, _, rest = doc.strip().partition("\n")
    flags = argparse.ArgumentParser(
        description=first, epilog=rest.strip(), formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    config_flags(flags)
    flags.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="[STAGE=]DIR",
        help="read this run or folder instead of the one that the config names; may be repeated",
    )
    flags.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write here, a folder that must not exist (default: data/runs/STAGE/HASH)",
    )
    flags.add_argument(
        "--limit", type=positive, metavar="N", help="work on the first N items only, as a run of its own"
    )
    flags.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    flags.add_argument("--verbose", action="store_true", help="log more, tracebacks included")
    return flags


def config_flags(flags: argparse.ArgumentParser, default: Path | None = None) -> None:
    """--config and --set, alike for every script that reads a config."""
    flags.add_argument(
        "--config",
        type=Path,
        required=default is None,
        default=default,
        metavar="FILE",
        help="the project's YAML, e.g. configs/demo.yaml",
    )
    flags.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="assignments",
        help="override one key of the config, e.g. audio.target_db=-23; may be repeated",
    )


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def run_stage(stage: Stage, work: Callable[[Run], None], flags: argparse.ArgumentParser, argv: list[str] | None) -> int:
    """Parse, load the config, take the lock, call `work`, and turn every ending into its exit code.

    Args:
        work: the stage's recipe; it ends with `run.publish(…)`.

    Returns:
        the exit code (docs/design.md, section 4).
    """
    args = flags.parse_args(argv)
    with reporting(stage.name, args.verbose) as ended:
        _run(stage, work, args)
    return ended.code


class _Ended:
    code = 0


@contextmanager
def reporting(name: str, verbose: bool):
    """Turn exceptions into one line on stderr and an exit code; the traceback goes to run.log only."""
    log = logging.getLogger(name)
    _log_to_stderr(log, verbose)
    ended = _Ended()
    previous = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield ended
    except Failure as failure:
        for line in str(failure).split("\n"):
            log.error(line)
        ended.code = failure.exit_code
    except KeyboardInterrupt:
        log.error("interrupted; what is finished is kept, run again to go on")
        ended.code = 130
    except _Terminated:
        log.error("terminated; what is finished is kept, run again to go on")
        ended.code = 143
    except OSError as error:
        log.debug(traceback.format_exc())
        where = f"{error.filename}: " if error.filename else ""
        log.error(f"{where}{error.strerror or error}; make room or mend the disk, then run again to go on")
        ended.code = 70
    except Exception as error:
        log.debug(traceback.format_exc())
        log.error(
            f"internal error: {type(error).__name__}: {error} (the traceback is in the run's log, or shown by --verbose)"
        )
        ended.code = 70
    finally:
        signal.signal(signal.SIGTERM, previous)
        for handler in list(log.handlers):
            log.removeHandler(handler)
            handler.close()


class _Terminated(BaseException):
    """SIGTERM arrived."""


def _terminated(*_: Any) -> None:
    raise _Terminated


def _run(stage: Stage, work: Callable[[Run], None], args: argparse.Namespace) -> None:
    from voxmake.run.run import DryRun, Run, open_input
    from voxmake.run.stage import link_project, load_config
    from voxmake.run.store import WorkDir

    log = logging.getLogger(stage.name)
    planned, config = plan_run(stage, args, load_config)
    final = args.output.absolute() if args.output else planned.path
    if final.parent == planned.path.parent and final.name != planned.path.name:
        raise ConfigError(
            f"{final}: the config or the input has changed since this name was made; it is {planned.hash12} now: run make again"
        )
    if final == planned.path and planned.done:
        log.info("%s is done already; nothing to do", final)
        link_project(config.project, planned)
        return
    inputs = {name: open_input(upstream) for name, upstream in planned.inputs.items()}
    if args.dry_run:
        log.info("would make %s", final)
        run = Run(planned, config, inputs, log, work=None, limit=args.limit)
        try:
            work(run)
        except DryRun:
            return
        raise AssertionError("a dry run reached the end of its stage")
    try:
        workdir = WorkDir(final)
    except OutputExists:
        if final == planned.path and planned.done:  # another run published it while we planned
            log.info("%s is done already; nothing to do", final)
            return
        raise
    _log_to_file(log, workdir.path / "run.log")
    log.info("making %s", final)
    run = Run(planned, config, inputs, log, work=workdir, limit=args.limit)
    begun_s = time.monotonic()
    try:
        work(run)
    finally:
        if not final.exists():
            workdir.close()
    if final == planned.path:
        link_project(config.project, planned)
    log.info("done in %.1f s: %s", time.monotonic() - begun_s, final)


def plan_run(stage: Stage, args: argparse.Namespace, load_config: Callable) -> tuple[Planned, Any]:
    """The run that the flags ask for, and the config it comes from."""
    from voxmake.run.stage import plan_stage

    assignments = list(args.assignments)
    if args.input and stage.input_keys is not None:
        assignments += stage.input_keys(args.input)
    config = load_config(args.config, assignments)
    known: dict[str, Planned] = {}
    if args.input and stage.input_keys is None:
        known = dict(_given_input(stage, text) for text in args.input)
    return plan_stage(stage.name, config, known, args.limit), config


def _given_input(stage: Stage, text: str) -> tuple[str, Planned]:
    """An --input: a published run, by default of the first stage that this one reads."""
    import json

    from voxmake.run.stage import Planned, load_stage

    name, equals, folder = text.partition("=")
    if not equals:
        name, folder = stage.after[0], text
    if name not in stage.after:
        raise ConfigError(f"--input {text}: {stage.name} reads {' and '.join(stage.after)}, not {name}")
    path = Path(folder).resolve()
    try:
        record = json.loads((path / "run.json").read_text(encoding="utf-8"))
        identity = record["identity"]
    except (OSError, ValueError, KeyError):
        raise BadInput(
            f"--input {text}: {path} is no run of voxmake; `scripts/collect.py --input {path}` makes one of it"
        ) from None
    return name, Planned(load_stage(name), identity, location=path)


def _log_to_stderr(log: logging.Logger, verbose: bool) -> None:
    log.setLevel(logging.DEBUG)
    log.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.DEBUG if verbose else logging.INFO)
    handler.setFormatter(_formatter())
    log.addHandler(handler)


def _log_to_file(log: logging.Logger, path: Path) -> None:
    handler = _RunLog(path)
    handler.setFormatter(_formatter())
    log.addHandler(handler)


class _RunLog(logging.Handler):
    """run.log, written line by line. When it can't be, the run stops, as for any other file."""

    def __init__(self, path: Path):
        super().__init__()
        self.fd: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def emit(self, record: logging.LogRecord) -> None:
        if self.fd is None:
            return
        try:
            os.write(self.fd, self.format(record).encode(errors="backslashreplace") + b"\n")
        except OSError:
            self.close()  # the line that tells of it goes to stderr alone
            raise

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
        super().close()


def _formatter() -> logging.Formatter:
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    return formatter
