"""What made a run: versions of packages, digests of our own sources, the commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

from voxmake.run.digest import file_sha256
from voxmake.run.stage import PROJECT_ROOT


def source_digests() -> dict[str, str]:
    """sha256 of every file of scripts/ that this process has loaded, by path; `make stale` compares them."""
    scripts = PROJECT_ROOT / "scripts"
    files = {Path(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)}
    return {
        path.relative_to(PROJECT_ROOT).as_posix(): file_sha256(path)
        for path in sorted(file.resolve() for file in files)
        if path.is_relative_to(scripts) and path.is_file()
    }


def versions() -> dict[str, str]:
    """Versions of Python and of every installed package that is loaded."""
    from importlib import metadata

    loaded = {name.partition(".")[0] for name in sys.modules}
    packages = metadata.packages_distributions()
    names = {package for module in loaded for package in packages.get(module, [])}
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in sorted(names)}


def git_commit() -> str | None:
    """Commit of the project's checkout, with "+" if files differ from it; in a container, of the image."""
    if built_from := os.environ.get("VOXMAKE_COMMIT"):
        return built_from
    command = ["git", "-C", str(PROJECT_ROOT), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
