"""Pin what docker/requirements/*.in ask for, with hashes, into *.txt. Needs `uv` on the PATH.

    python docker/lock.py            # all; core first, groups on top of its pins, then the other environments

An environment other than core pins all of its packages itself, at core's versions where it can.
Left out of the files: torch and its CUDA parts, which docker/setup.py installs first and which differ
between machines; triton, which openai-whisper uses only for word times on a GPU; webrtcvad and
typing, which resemblyzer names, and webrtcvad-wheels and Python itself provide.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from setup import CORE, ENVIRONMENTS

FOLDER = Path(__file__).parent / "requirements"
PYTHON = "3.11"  # the oldest supported; the pins have wheels for newer ones too
LEFT_OUT = re.compile(r"torch|triton|webrtcvad|typing|cuda-.*|nvidia-(?!ml-py).*")


def lock(name: str, core: set[str]) -> set[str]:
    """Write <name>.txt, a group's without the packages of core; returns the names of its packages."""
    torch = ENVIRONMENTS.get(name, ENVIRONMENTS[CORE]).torch
    as_core = name != CORE and torch == ENVIRONMENTS[CORE].torch
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        pins.write(f"{torch}\n" + ((FOLDER / "core.txt").read_text(encoding="utf-8") if as_core else ""))
        pins.flush()
        command = ["uv", "pip", "compile", "--generate-hashes", "--no-header", "--quiet", "--python-version", PYTHON]
        command += ["--constraint", pins.name, str(FOLDER / f"{name}.in")]
        made = subprocess.run(command, text=True, check=True, stdout=subprocess.PIPE).stdout
    entries = re.split(r"^(?=\S)", made, flags=re.MULTILINE)
    kept = [
        entry
        for entry in entries
        if "==" in entry and not LEFT_OUT.fullmatch(package(entry)) and package(entry) not in core
    ]
    (FOLDER / f"{name}.txt").write_text("".join(kept), encoding="utf-8")
    return {package(entry) for entry in kept}


def package(entry: str) -> str:
    return entry.partition("==")[0]


def main() -> int:
    core = lock(CORE, set())
    for path in sorted(FOLDER.glob("*.in")):
        if path.stem != CORE:
            lock(path.stem, set() if path.stem in ENVIRONMENTS else core)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
