"""What a stage is, and the hash that names its runs.

A stage is one script. Its run is named by a hash over what decides the result and over nothing
else: the script's VERSION, its result keys, the hashes of the runs it reads, the digest of files
from outside. Never a path, a time or a random number (docs/design.md, section 4).
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from voxmake.errors import ConfigError
from voxmake.run import config as configs

PROJECT_ROOT = Path(__file__).resolve().parents[3]

# Every stage script, in the order of the graph. A new stage is one script and one name here.
STAGES = (
    "collect", "preprocess", "segment", "diarize", "prepare_dataset", "quality_report", "whisper_validate",
    "train_mms", "train_piper", "release", "encode_units", "discover_motifs", "train_vocoder", "evaluate_vocoder",
    "generate", "audit", "tts",
    "calibrate",
)  # fmt: skip


def data_root() -> Path:
    """Where runs live: VOXMAKE_DATA, or data/ in the project."""
    return Path(os.environ.get("VOXMAKE_DATA") or PROJECT_ROOT / "data")


@dataclass(frozen=True)
class Stage:
    """One script of the graph.

    Attributes:
        name: the script's file name without .py, and the name of its folder under data/runs/.
        version: bumped by hand when the same input and keys give other results.
        summary: what it does, in one line; shown by `make help` and `make plan`.
        sections: config section name -> pydantic model. Two stages may share a section.
        after: stages whose runs it reads.
        without: those of `after` that it does not need under this config.
        seeded: its result depends on the config's seed.
        environment: the Python environment it needs (docs/design.md, section 7).
        result_keys: the part of the config that enters the hash; all its sections if None.
        outside: digests of files or servers that no other run holds, by name.
        served_by: the stage that does this one's work under this config, or None.
        input_keys: what `--input` paths mean to a stage that reads no other stage: keys to set.
    """

    name: str
    version: int
    summary: str
    sections: Mapping[str, type[BaseModel]]
    after: tuple[str, ...] = ()
    seeded: bool = False
    environment: str = "core"
    result_keys: Callable[[Any], dict] | None = None
    outside: Callable[[Any], dict[str, str]] | None = None
    without: Callable[[Any], tuple[str, ...]] = lambda config: ()
    served_by: Callable[[Any], str | None] = lambda config: None
    input_keys: Callable[[list[str]], list[str]] | None = None

    def keys(self, config: Any) -> dict:
        """The result keys of a validated config, ready for JSON."""
        if self.result_keys is not None:
            keys = self.result_keys(config)
        else:
            keys = {name: getattr(config, name).model_dump(mode="json") for name in self.sections}
        return keys | ({"seed": config.seed} if self.seeded else {})


@cache
def load_stage(name: str) -> Stage:
    """Import scripts/<name>.py and return its STAGE."""
    if name not in STAGES:
        raise ConfigError(f"no stage {name!r}; there are: {' '.join(STAGES)}")
    return importlib.import_module(name).STAGE


def all_sections() -> dict[str, type[BaseModel]]:
    """Every config section of every stage."""
    sections: dict[str, type[BaseModel]] = {}
    for name in STAGES:
        sections.update(load_stage(name).sections)
    return sections


def load_config(path: Path, assignments: list[str]) -> Any:
    """Load a project's config (see `voxmake.run.config.load_config`) and check its list of stages."""
    config = configs.load_config(path, assignments, all_sections())
    for name in config.stages:
        if name not in STAGES:
            raise ConfigError(f"{path}: stages: no stage {name!r}; there are: {' '.join(STAGES)}")
    return config


@dataclass(frozen=True)
class Planned:
    """A run that a config asks for: it may or may not exist yet.

    Attributes:
        identity: everything that enters the hash, readable; written into run.json.
        inputs: the runs it reads, by stage name.
        location: where it is, if not where the store would put it (an --input).
    """

    stage: Stage
    identity: dict
    inputs: dict[str, Planned] = field(default_factory=dict)
    location: Path | None = None

    @property
    def hash12(self) -> str:
        return hash12(self.identity)

    @property
    def path(self) -> Path:
        return self.location or data_root() / "runs" / self.stage.name / self.hash12

    @property
    def done(self) -> bool:
        return (self.path / "MANIFEST.sha256").is_file()


def hash12(identity: dict) -> str:
    """First 12 hex digits of the sha256 of canonical JSON."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def serving_stage(name: str, config: Any) -> str:
    """The stage whose run holds what `name` gives under this config."""
    while (server := load_stage(name).served_by(config)) is not None:
        name = server
    return name


def plan_stage(name: str, config: Any, known: dict[str, Planned], limit: int | None = None) -> Planned:
    """Resolve one stage and all it reads into named runs.

    Args:
        known: runs planned already, by stage name; filled as the graph is walked. An entry put
            there by the caller (from --input) replaces what the config would give.
        limit: only for this stage: the first N items.
    """
    if name in known:  # an --input replaces the stage that would serve it as well
        return known[name]
    name = serving_stage(name, config)
    if name in known:
        return known[name]
    stage = load_stage(name)
    needed = [upstream for upstream in stage.after if upstream not in stage.without(config)]
    inputs = {upstream: plan_stage(upstream, config, known) for upstream in needed}
    identity: dict[str, Any] = {
        "stage": stage.name,
        "version": stage.version,
        "keys": stage.keys(config),
        "inputs": {upstream: planned.hash12 for upstream, planned in inputs.items()},
        "outside": stage.outside(config) if stage.outside else {},
    }
    if limit is not None:
        identity["limit"] = limit
    known[name] = Planned(stage, identity, inputs)
    return known[name]


def link_project(project: str, planned: Planned) -> None:
    """Point data/projects/<project>/<stage> at a run, atomically. For people; recipes never read it."""
    folder = data_root() / "projects" / project
    folder.mkdir(parents=True, exist_ok=True)
    target = Path("../../runs") / planned.stage.name / planned.hash12
    link = folder / planned.stage.name
    if link.is_symlink() and link.readlink() == target:
        return
    temporary = folder / f".{planned.stage.name}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
