"""Write scripts, audit them and speak those that passed, in one command.

    python scripts/generate_with_audit.py --intros --dj all
    python scripts/generate_with_audit.py --intros --dj julie --test --limit 10
    python scripts/generate_with_audit.py --all-content --dry-run      # which items would be made, and why
    python scripts/generate_with_audit.py --resume                     # go on with the last command
    python scripts/generate_with_audit.py --stage audio                # one stage of the last command

It runs generate.py, audit.py and tts.py, one after the other, each in a process of its own: a model is gone from the
GPU when its stage ends. data/projects/<project>/pipeline_state.json tells what was asked for, how far it is, and by
what key each item was made: a changed song, persona, prompt, model or seed makes exactly its items stale.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from voxmake.errors import BadInput, ConfigError, Failure, GateFailed
from voxmake.run.entry import config_flags, positive, reporting
from voxmake.run.stage import PROJECT_ROOT, Planned, data_root, load_config, plan_stage
from voxmake.run.store import write_atomic

STAGES = {"generate": "generate", "audit": "audit", "audio": "tts"}  # the seed's name -> ours
CONTENT = ("intros", "outros", "time", "weather")
TEST_ITEMS = 10
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

log = logging.getLogger("generate_with_audit")


def flags() -> argparse.ArgumentParser:
    first, _, rest = __doc__.partition("\n")
    told = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    config_flags(told, default=Path("configs/demo.yaml"))
    content = told.add_argument_group("what is written")
    for name, meaning in (
        ("intros", "song intros"), ("outros", "song outros"), ("time", "time announcements"), ("weather", "weather"),
    ):  # fmt: skip
        content.add_argument(f"--{name}", action="store_true", help=meaning)
    content.add_argument("--all-content", action="store_true", help="all four")
    content.add_argument("--dj", metavar="ID", help="one host, or all (default: all)")
    chosen = told.add_argument_group("how much of it")
    chosen.add_argument(
        "--test", action="store_true", help=f"{TEST_ITEMS} songs, times and reports, remembered for --same-set"
    )
    chosen.add_argument("--limit", type=positive, metavar="N", help="so many songs, times and reports of each host")
    chosen.add_argument("--random", action="store_true", help="drawn by the config's seed instead of the first ones")
    chosen.add_argument("--same-set", action="store_true", help="those of the last --test")
    stages = told.add_argument_group("stages")
    stages.add_argument("--stage", choices=(*STAGES, "all"), help="only this one (default: all)")
    stages.add_argument("--skip-audio", action="store_true", help="generate and audit only")
    stages.add_argument("--resume", action="store_true", help="go on with the last command, whatever it was")
    told.add_argument("--dry-run", action="store_true", help="list the items that would be made; make nothing")
    told.add_argument("--verbose", action="store_true", help="log more, tracebacks included")
    return told


# ---------------------------------------------------------------------------- what is asked for


def command_of(args: argparse.Namespace, state: dict) -> dict[str, Any]:
    """What the flags ask for, as plain data: --set assignments that select, and stages.

    Raises:
        ConfigError: flags that contradict each other, or that need an earlier command.
    """
    content = [name for name in CONTENT if args.all_content or getattr(args, name)]
    selects = bool(content or args.dj or args.test or args.limit or args.random or args.same_set)
    last = state.get("command")
    if args.resume:
        if selects or args.stage or args.skip_audio or args.assignments:
            raise ConfigError("--resume goes on with the last command as it was: take the other flags out")
        if last is None:
            raise ConfigError("--resume: there is no earlier command of this project; say what to write, e.g. --intros")
        return last
    if args.skip_audio and args.stage == "audio":
        raise ConfigError("--stage audio and --skip-audio: take one of them out")
    stages = list(STAGES) if args.stage in (None, "all") else [args.stage]
    stages = [name for name in stages if not (args.skip_audio and name == "audio")]
    if not selects and last is not None:
        return last | {"stages": stages, "assignments": args.assignments or last["assignments"]}
    if not content:
        raise ConfigError("say what to write: --intros --outros --time --weather, or --all-content")
    if args.same_set and (args.limit or args.random):
        raise ConfigError("--same-set takes the items of the last --test: take --limit and --random out")
    kinds = [{"intros": "intro", "outros": "outro"}.get(name, name) for name in content]
    select: dict[str, Any] = {"content": kinds, "djs": None if args.dj in (None, "all") else [args.dj]}
    if args.same_set:
        if not state.get("test_set"):
            raise ConfigError("--same-set: there was no --test in this project yet")
        select["only"] = state["test_set"]
    elif limit := args.limit or (TEST_ITEMS if args.test else None):
        select |= {"songs": limit, "slots": limit, "choose": "random" if args.random else "first"}
    elif args.random:
        raise ConfigError("--random: say how many, with --limit or --test")
    return {"select": select, "stages": stages, "assignments": args.assignments, "test": args.test}


def assignments_of(command: dict) -> list[str]:
    return [
        *command["assignments"],
        *(f"generate.{key}={json.dumps(value)}" for key, value in command["select"].items()),
    ]


# ---------------------------------------------------------------------------- state


def state_path(project: str) -> Path:
    return data_root() / "projects" / project / "pipeline_state.json"


def read_state(path: Path) -> dict:
    """The state file; empty before the first command.

    Raises:
        BadInput: it is no JSON object.
    """
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        state = None
    if not isinstance(state, dict):
        raise BadInput(f"{path}: is no JSON object; delete it, finished runs are kept elsewhere")
    return state


def write_state(path: Path, state: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(state, indent=2, ensure_ascii=False) + "\n")


def keys_of(config: Any) -> dict[str, dict[str, str]]:
    """By item, the key of each stage: equal keys give equal results."""
    import audit
    import generate
    import tts
    from voxmake.run.digest import digest_of

    plan = generate.read_plan(config)
    judged = digest_of(audit.STAGE.version, audit.result_keys(config), audit.outside(config))
    spoken = digest_of(tts.STAGE.version, tts.result_keys(config), tts.outside(config))
    return {
        item: {"generate": key, "audit": digest_of(key, judged), "audio": digest_of(key, spoken)}
        for item, key in generate.item_keys(config, plan).items()
    }


def stale(keys: dict[str, dict[str, str]], known: dict[str, dict], stages: list[str]) -> dict[str, list[str]]:
    """Of each item the stages that have to make it; items with none are left out. Only scripts that passed are spoken."""
    found = {}
    for item, wanted in keys.items():
        old = known.get(item, {})
        todo = [name for name in stages if old.get(name) != wanted[name]]
        if "audio" in todo and old.get("audit") == wanted["audit"] and old.get("state") != "passed":
            todo.remove("audio")
        if "audit" in todo and old.get("generate") == wanted["generate"] and old.get("state") == "rejected":
            todo = []
        if todo:
            found[item] = todo
    return found


# ---------------------------------------------------------------------------- stages


def gpu_memory_mb() -> list[int]:
    """Memory in use on each GPU, in MiB; empty without one."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        return [round(pynvml.nvmlDeviceGetMemoryInfo(handle).used / 2**20) for handle in handles]
    finally:
        pynvml.nvmlShutdown()


def run_one(name: str, config: Path, assignments: list[str], verbose: bool) -> int:
    """One stage script to its end, in a process that does not outlive this one; its exit code."""
    command = [sys.executable, str(PROJECT_ROOT / "scripts" / f"{STAGES[name]}.py"), "--config", str(config)]
    command += [part for text in assignments for part in ("--set", text)] + (["--verbose"] if verbose else [])
    return subprocess.run(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent, check=False).returncode


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def learn(name: str, planned: Planned, keys: dict[str, dict[str, str]], items: dict[str, dict]) -> None:
    """Take over what a finished run says of its items."""
    from voxmake.run.run import read_table

    rows = {row["id"]: row for row in read_table(planned.path / "metadata.csv")}
    for item, wanted in keys.items():
        known = items.setdefault(item, {})
        if name == "generate":
            known |= {"generate": wanted["generate"], "state": "written" if item in rows else "rejected"}
        elif name == "audit" and known.get("state") != "rejected":
            known |= {"audit": wanted["audit"], "state": rows[item]["state"] if item in rows else "error"}
        elif name == "audio" and known.get("state") == "passed":
            row = rows.get(item)  # without one: failures.json of the run tells why
            known |= {"audio": wanted["audio"], "file": None if row is None else str(planned.path / row["file_name"])}


def make(args: argparse.Namespace, state: dict, path: Path, command: dict, config: Any) -> None:
    from plan import failed_gate

    keys = keys_of(config)
    items = state.setdefault("items", {})
    if args.dry_run:
        show(stale(keys, items, command["stages"]), len(keys))
        return
    state["command"], state["config"] = command, str(args.config)
    if command["test"]:
        state["test_set"] = sorted({item.rpartition("/")[2] for item in keys})
    told = state["stages"] = {name: {"state": "to do" if name in command["stages"] else "left out"} for name in STAGES}
    write_state(path, state)
    for name in command["stages"]:
        planned = plan_stage(STAGES[name], config, {})
        told[name] = {"state": "running", "run": str(planned.path), "gpu_memory_before_mb": gpu_memory_mb()}
        write_state(path, state)
        begun_s = time.monotonic()
        code = run_one(name, args.config, assignments_of(command), args.verbose)
        told[name] |= {
            "state": "done" if planned.done else "failed",
            "exit_code": code,
            "seconds": round(time.monotonic() - begun_s, 1),
            "gpu_memory_after_mb": gpu_memory_mb(),
        }
        if planned.done:
            learn(name, planned, keys, items)
        write_state(path, state)
        if planned.done and (failed := failed_gate(planned)):
            raise GateFailed(f"{name}: gate FAIL: {failed} ({planned.path}); the next stage does not start")
        if code != 0:
            raise _Stopped(code, f"{name} ended with exit code {code}; mend it, then go on with --resume")
    summary(items, keys, told)


class _Stopped(Failure):
    def __init__(self, code: int, told: str):
        super().__init__(told)
        self.exit_code = code if code > 0 else 70


def show(todo: dict[str, list[str]], count: int) -> None:
    for item, names in todo.items():
        print(f"{item}: {' '.join(names)}")
    log.info("%d of %d items would be made", len(todo), count)


def summary(items: dict[str, dict], keys: dict, told: dict[str, dict]) -> None:
    chosen = [items[item] for item in keys]
    states = {
        name: sum(one.get("state") == name for one in chosen) for name in ("passed", "failed", "error", "rejected")
    }
    spoken = sum(one.get("file") is not None for one in chosen)
    counts = ", ".join(f"{count} {name}" for name, count in states.items() if count)
    log.info("%d items: %s; %d audio files", len(chosen), counts, spoken)
    for name, one in told.items():
        if "run" in one:
            log.info("%s: %s", name, one["run"])


def main(argv: list[str] | None = None) -> int:
    args = flags().parse_args(argv)
    with reporting("generate_with_audit", args.verbose) as ended:
        args.config = args.config if args.config.is_absolute() or args.config.exists() else PROJECT_ROOT / args.config
        path = state_path(load_config(args.config, args.assignments).project)
        state = read_state(path)
        command = command_of(args, state)
        make(args, state, path, command, load_config(args.config, assignments_of(command)))
    return ended.code


if __name__ == "__main__":
    raise SystemExit(main())
