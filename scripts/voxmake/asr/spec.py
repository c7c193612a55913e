"""The config section `validation`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from voxmake.errors import ConfigError
from voxmake.run.config import Section
from voxmake.run.digest import remembered_sha256, tree_digest
from voxmake.run.stage import PROJECT_ROOT, data_root

Engine = Literal["pocketsphinx", "whisper", "transformers", "faster-whisper"]


class Validate(Section):
    """Speech recognition of every clip, compared with its text."""

    engine: Literal["auto", "pocketsphinx", "whisper", "transformers", "faster-whisper"] = Field(
        "auto",
        description="recogniser; auto: by `model`: none pocketsphinx (US English), a .pt file whisper, a folder with model.bin faster-whisper, another folder transformers",
    )
    model: str | None = Field(
        None, description="file or folder of the Whisper model, relative to the project's folder; nothing is downloaded"
    )
    model_sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="sha256 of the .pt file, which has to be pinned before it is loaded",
    )
    language: str | None = Field(
        None, description="language to recognise, en or en_US; null: each clip's own, and where it has none, detected"
    )
    beam_size: int = Field(5, ge=1, le=20, description="hypotheses that Whisper keeps; 1: greedy")
    compute_type: Literal["float32", "float16", "bfloat16", "int8", "int8_float16"] = Field(
        "float32", description="numbers that Whisper computes with; float16 on a GPU; int8: faster-whisper only"
    )
    sample: int | None = Field(None, ge=1, description="recognise so many clips only, drawn by the seed; null: all")
    shards: int = Field(2, ge=1, le=1000, description="parts of the report; an id's hash decides which one it is in")
    min_similarity: float = Field(
        0.8, gt=0, le=1, description="similarity below which a clip does not pass; 1: equal texts, 0: nothing in common"
    )
    gate_mean_similarity: float = Field(0.90, ge=0, le=1, description="gate: the mean similarity is at least this")
    gate_low_ratio: float = Field(
        0.02, ge=0, le=1, description="gate: less than this share of the clips is below min_similarity"
    )
    gate_sample_mean_similarity: float = Field(0.85, ge=0, le=1, description="gate_mean_similarity of a `sample`")
    gate_sample_low_ratio: float = Field(0.10, ge=0, le=1, description="gate_low_ratio of a `sample`")
    gate_failed_shards: int = Field(
        0, ge=0, description="gate: at most so many shards hold clips that could not be recognised"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Validate:
        if self.engine == "pocketsphinx" and self.model is not None:
            raise ValueError("engine: pocketsphinx brings its model; take model out, or set engine to auto")
        if self.engine not in ("auto", "pocketsphinx") and self.model is None:
            raise ValueError(f"engine: {self.engine} needs model, the file or folder of a Whisper model")
        if self.language is not None and not re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*", self.language):
            raise ValueError("language must be a code such as en, de or pt_BR")
        return self


def model_path(spec: Validate) -> Path | None:
    return None if spec.model is None else PROJECT_ROOT / spec.model


def chosen_engine(spec: Validate) -> Engine:
    """The engine that the config names, or the one that its model's format tells.

    Raises:
        ConfigError: the model is not there, or of no format that is known.
    """
    path = model_path(spec)
    if path is None:
        return "pocketsphinx"
    if not path.exists():
        raise ConfigError(f"validation.model: {path} is not there; download the model first, voxmake downloads none")
    if spec.engine != "auto":
        found = spec.engine
    elif path.is_file():
        found = "whisper"
    else:
        found = "faster-whisper" if (path / "model.bin").is_file() else "transformers"
    needed = {"whisper": path, "faster-whisper": path / "model.bin", "transformers": path / "config.json"}[found]
    if not needed.is_file():
        raise ConfigError(f"validation.model: {path} is no model of {found}: {needed.name} is not a file there")
    return found


def model_digest(spec: Validate) -> str | None:
    """sha256 over the model's files; None for the model that is in pocketsphinx's wheel.

    Raises:
        ConfigError: a .pt file whose digest is not the pinned one, or is not pinned.
    """
    path = model_path(spec)
    engine = chosen_engine(spec)
    if path is None:
        return None
    cache = data_root() / ".cache" / "digests.sqlite"
    if engine != "whisper":
        return tree_digest([file for file in path.rglob("*") if file.is_file()], path, cache)
    digest = remembered_sha256(path, cache)
    if spec.model_sha256 != digest:
        said = "is not pinned" if spec.model_sha256 is None else f"is not {spec.model_sha256}"
        raise ConfigError(
            f"validation.model_sha256: the sha256 of {path} {said}: it is {digest}; compare it with its publisher's, then set it"
        )
    return digest


def model_facts(spec: Validate) -> dict[str, str]:
    """For Stage.outside: the model's digest, if it is not part of a package."""
    digest = model_digest(spec)
    return {} if digest is None else {"model": digest}


def recogniser_keys(spec: Validate) -> dict:
    """For Stage.result_keys. Where the model lies is no part of the result; which engine it is for, and what is in it, is."""
    from voxmake.asr.engines import Pocketsphinx

    engine = chosen_engine(spec)
    keys = spec.model_dump(mode="json", exclude={"engine", "model", "model_sha256"}) | {"engine": engine}
    return {"validation": keys | ({"settings": Pocketsphinx.settings_version} if engine == "pocketsphinx" else {})}
