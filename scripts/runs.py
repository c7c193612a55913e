"""Look after runs: list them, compare two, find outdated ones, verify files, delete what is left over.

    python scripts/runs.py status
    python scripts/runs.py diff preprocess/3fa2b1c94d5e preprocess/9b1d0c77aa12
    python scripts/runs.py stale
    python scripts/runs.py verify [RUN …]
    python scripts/runs.py sweep [--unused] [RUN …]

A RUN is a folder, or its last two parts: <stage>/<hash>.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from voxmake.errors import BadInput, ConfigError
from voxmake.run.compare import compare
from voxmake.run.digest import file_sha256
from voxmake.run.entry import reporting
from voxmake.run.stage import PROJECT_ROOT, data_root
from voxmake.run.store import MANIFEST, Lock, check_run, remove_tree


def published_runs() -> list[Path]:
    return sorted(
        path.parent for path in (data_root() / "runs").glob(f"*/*/{MANIFEST}") if not path.parent.name.startswith(".")
    )


def find_run(text: str) -> Path:
    """The folder that a RUN argument means."""
    for path in (Path(text), data_root() / "runs" / text):
        if text and path.is_dir():
            return path.resolve()
    raise ConfigError(f"{text or 'no run given'}: no such run; name it <stage>/<hash>, as `make status` shows it")


def record_of(run: Path) -> dict:
    try:
        return json.loads((run / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise BadInput(
            f"{run / 'run.json'}: missing or damaged; remove the run (`make sweep RUN={run}`) and make it again"
        ) from None


def status(args: argparse.Namespace) -> int:
    """Every finished run, the projects that point at it, and work that is running or was interrupted."""
    root = data_root()
    users: dict[Path, list[str]] = {}
    for link in sorted((root / "projects").glob("*/*")):
        if link.is_symlink():
            users.setdefault(link.resolve(), []).append(link.parent.name)
    print(f"{'run':<28}{'finished':<22}{'items':>8}{'rejected':>10}  {'gate':<6}projects")
    for run in published_runs():
        record, numbers = record_of(run), stats_of(run)
        when = record["finished"][:19]
        counts = [numbers.get(key, "") for key in ("items_out", "items_rejected")]
        projects = ", ".join(users.get(run.resolve(), [])) or "-"
        name = f"{run.parent.name}/{run.name}"
        print(f"{name:<28}{when:<22}{counts[0]:>8}{counts[1]:>10}  {record['gate']['verdict']:<6}{projects}")
    for work in sorted((root / "runs").glob("*/.tmp-*")):
        hash12 = work.name.removeprefix(".tmp-")
        state = (
            "running" if Lock.is_held(work.with_name(f".lock-{hash12}")) else "interrupted; the same command goes on"
        )
        print(f"{work.parent.name + '/' + hash12:<28}{state}")
    return 0


def stats_of(run: Path) -> dict:
    """Name -> value of a run's stats.json."""
    return {
        name: facts["value"] for name, facts in json.loads((run / "stats.json").read_text(encoding="utf-8")).items()
    }


def diff(args: argparse.Namespace) -> int:
    old, new = (find_run(text) for text in (args.a, args.b))
    for name, read in (
        ("config", lambda run: record_of(run)["identity"]),
        ("stats", stats_of),
        ("gate", lambda run: record_of(run)["gate"]),
    ):
        print(f"{name}:")
        lines = list(compare(read(old), read(new)))
        print("\n".join(f"  {line}" for line in lines) or "  no difference")
    return 0


def stale(args: argparse.Namespace) -> int:
    """A changed source does not rerun anything (VERSION does); this lists what it may concern."""
    today: dict[str, str | None] = {}
    for run in published_runs():
        changed = []
        for name, digest in record_of(run)["sources"].items():
            if name not in today:
                path = PROJECT_ROOT / name
                today[name] = file_sha256(path) if path.is_file() else None
            if today[name] != digest:
                changed.append(name if today[name] else f"{name} (gone)")
        if changed:
            print(f"{run.parent.name}/{run.name}: made by other versions of {', '.join(changed)}")
    return 0


def verify(args: argparse.Namespace) -> int:
    runs = [find_run(text) for text in args.runs] or published_runs()
    faults = [fault for run in runs for fault in check_run(run, full=True)]
    if faults:
        raise BadInput("\n".join(faults))
    print(f"{len(runs)} runs verified")
    return 0


def sweep(args: argparse.Namespace) -> int:
    """Delete interrupted work that nobody holds; with --unused also runs that no project points at."""
    root = data_root()
    doomed = [find_run(text) for text in args.runs]
    if not args.runs:
        for path in sorted((root / "runs").glob("*/.*-*")):
            hash12 = path.name.rpartition("-")[2]
            if path.name.startswith((".tmp-", ".journal-", ".lock-")) and not Lock.is_held(
                path.with_name(f".lock-{hash12}")
            ):
                doomed.append(path)
        doomed += sorted((root / ".plans").glob("*.mk"))
        if args.unused:
            used = {link.resolve() for link in (root / "projects").glob("*/*") if link.is_symlink()}
            # What a used run was made from is used as well.
            for run in reversed(published_runs()):
                if run.resolve() in used:
                    used |= _ancestors(run)
            doomed += [run for run in published_runs() if run.resolve() not in used]
    for path in doomed:
        print(f"removing {path}")
        if path.is_dir():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)
    return 0


def _ancestors(run: Path) -> set[Path]:
    found: set[Path] = set()
    for name, facts in record_of(run)["inputs"].items():
        path = data_root().resolve() / "runs" / name / facts["hash"]
        if path.is_dir():
            found |= {path} | _ancestors(path)
    return found


def main(argv: list[str] | None = None) -> int:
    first, _, rest = __doc__.partition("\n")
    flags = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = flags.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("diff", help="compare config, stats and gate of two runs")
    one.add_argument("a")
    one.add_argument("b")
    verbs.add_parser("status", help="list every run there is")
    verbs.add_parser("stale", help="list runs made by other source code than today's")
    for name, text in (("verify", "compare files with their manifests"), ("sweep", "delete what is left over")):
        one = verbs.add_parser(name, help=text)
        one.add_argument("runs", nargs="*", metavar="RUN")
        if name == "sweep":
            one.add_argument("--unused", action="store_true", help="also runs that no project points at")
    args = flags.parse_args(argv)
    verb = {"status": status, "diff": diff, "stale": stale, "verify": verify, "sweep": sweep}[args.verb]
    with reporting("runs", verbose=False) as ended:
        ended.code = verb(args)
    return ended.code


if __name__ == "__main__":
    raise SystemExit(main())
