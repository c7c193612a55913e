"""What can be said of the container without an engine: docs/container.md tells how it was run for real."""

import os
import re
import subprocess
from pathlib import Path

import yaml

from voxmake.run.stage import PROJECT_ROOT

DOCKERFILE = (PROJECT_ROOT / "Dockerfile").read_text()
ENTRYPOINT = PROJECT_ROOT / "docker" / "entrypoint.sh"


def test_the_image_runs_as_nobody_special_and_keeps_caches_in_one_place():
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)[-1] not in ("root", "0", "0:0")
    variables = dict(re.findall(r"^\s*(?:ENV )?([A-Z_]+)=(\S+)", DOCKERFILE, re.MULTILINE))
    for name in ("HOME", "XDG_CACHE_HOME", "HF_HOME", "TORCH_HOME", "NUMBA_CACHE_DIR", "MPLCONFIGDIR"):
        assert variables[name].split("/")[1] == "cache", name


def test_everything_copied_is_there():
    ignored = {line.strip("/") for line in (PROJECT_ROOT / ".dockerignore").read_text().splitlines()}
    for sources in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE):
        for source in sources.split():
            assert (PROJECT_ROOT / source).exists() and source not in ignored, source


def test_compose_says_the_same_as_make():
    service = yaml.safe_load((PROJECT_ROOT / "docker/compose.yaml").read_text())["services"]["voxmake"]
    assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["network_mode"] == "none"
    shown = subprocess.run(
        ["make", "-n", "docker-run", "STAGE=all"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    ).stdout
    for flag in ("--gpus all", "--read-only", "--network none", "--cap-drop ALL", "--user"):
        assert flag in shown
    for volume in service["volumes"]:
        target = volume.split(":")[-2 if volume.endswith(":ro") else -1]
        assert f":{target}" in shown, volume


def enter(*args: str, data: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", ENTRYPOINT, *args],
        env=os.environ | {"VOXMAKE_DATA": str(data)} | environment,
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_entrypoint_names_a_data_folder_it_cannot_write(tmp_path):
    result = enter("all", data=tmp_path / "missing")
    assert result.returncode == 70
    assert len(result.stderr.splitlines()) == 1 and "can't write" in result.stderr


def test_entrypoint_passes_its_words_to_make(tmp_path):
    assert "verbs" in enter("help", data=tmp_path).stdout
    assert enter("no-such-verb", data=tmp_path).returncode == 2
