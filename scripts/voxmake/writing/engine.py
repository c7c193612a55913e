"""Text engines: one way to ask a grammar, a server or a model in memory for many texts at once.

An engine takes a batch and gives back, for each request, a `Text` or an `EngineError`. An error is a
value: one request that fails takes nothing with it, and nobody can mistake it for a text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import Field, model_validator

from voxmake.run.config import Section
from voxmake.run.stage import PROJECT_ROOT
from voxmake.writing.material import digest

_THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"\A.*?</(think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)


class TextModel(Section):
    """Keys of a stage that asks a text engine."""

    engine: Literal["openai", "transformers"] = "openai"
    model: str | None = Field(
        None,
        description="openai: the name the server knows it by, or with launch a file or folder; transformers: a folder. "
        "Files and folders are relative to the project's folder",
    )
    base_url: str | None = Field(None, description="openai: address of the server's API, e.g. http://127.0.0.1:8000/v1")
    launch: list[str] = Field(
        [],
        description="openai: command that starts the server, ended with the stage; {model} and {port} are filled in",
    )
    api_key_variable: str = Field(
        "OPENAI_API_KEY", description="openai: environment variable that holds the key, if any"
    )
    temperature: float = Field(0.8, ge=0, le=2, description="0: always the likeliest word")
    top_p: float = Field(0.95, gt=0, le=1, description="share of the probability that words are drawn from")
    max_tokens: int = Field(
        400, ge=1, le=32768, description="tokens of one answer, thinking included; longer is an error"
    )
    tries: int = Field(4, ge=1, le=20, description="times one request is sent before it counts as an error")
    timeout_s: float = Field(120.0, gt=0, description="openai: seconds until an answer must be complete")
    max_wait_s: float = Field(
        60.0, ge=0, description="openai: longest pause between tries, whatever the server asks for"
    )
    start_timeout_s: float = Field(
        600.0, gt=0, description="openai with launch: seconds until the server must be healthy"
    )
    batch_size: int = Field(8, ge=1, le=1024, description="requests that are asked at once")

    @model_validator(mode="after")
    def _consistent(self) -> Any:
        if self.engine in ("openai", "transformers") and self.model is None:
            raise ValueError(f"model: engine {self.engine} needs one")
        if self.engine == "openai" and bool(self.base_url) == bool(self.launch):
            raise ValueError("base_url or launch: engine openai needs one of them, not both")
        if self.launch and not any("{port}" in word for word in self.launch):
            raise ValueError("launch: {port} must stand in the command; the stage chooses a free one")
        if self.base_url and not re.match(r"https?://[^@/\s]+(/\S*)?$", self.base_url):
            raise ValueError("base_url: must read http://host:port/v1, without a name or password in it")
        return self


# How a model is reached and asked again changes no result; batch_size does for an auditor, whose canaries are per batch.
_TRANSPORT = {
    "base_url", "api_key_variable", "tries", "timeout_s", "max_wait_s", "start_timeout_s", "batch_size",
}  # fmt: skip
_MODEL_KEYS = {"model", "launch", "temperature", "top_p", "max_tokens"}


def result_keys(spec: Any) -> dict:
    """The keys of a section that decide what an engine answers; those of other engines are left out."""
    hidden = set(_TRANSPORT)
    if spec.engine not in ("openai", "transformers"):
        hidden |= _MODEL_KEYS
    elif model_path(spec) is not None:
        hidden |= {"model"}  # its content counts, not where it lies
    return spec.model_dump(mode="json", exclude=hidden)


def model_path(spec: Any) -> str | None:
    """Where the model lies, if it is a file or folder."""
    if spec.model is None or (spec.engine == "openai" and not spec.launch):
        return None
    path = PROJECT_ROOT / spec.model
    return str(path) if spec.engine == "transformers" or path.exists() else None


def model_digest(spec: Any) -> dict[str, str]:
    """For Stage.outside: the content of the model, where it is a file or folder."""
    from voxmake.run.stage import data_root

    path = model_path(spec)
    if path is None or spec.engine not in ("openai", "transformers"):
        return {}
    return {"model": digest(PROJECT_ROOT / path, data_root() / ".cache" / "digests.sqlite")}


@dataclass(frozen=True)
class TextRequest:
    """One text that is wanted.

    Attributes:
        id: of the item, for messages only.
        system, prompt: what a model is told.
        seed: of every random choice for this text (`seed_of`).
        schema: JSON Schema that the answer must follow; None: free text.
        material: for the grammar: dj, type, facts, bounds (`items.py`).
    """

    id: str
    system: str
    prompt: str
    seed: int
    schema: dict | None = None
    material: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Text:
    """An answer, without thinking text and outer white space; never empty."""

    text: str


@dataclass(frozen=True)
class EngineError:
    """No answer.

    Attributes:
        kind: engine_failed (server, network, time) or no_text (it answered nothing that can be used).
        detail: what happened, in a few words.
    """

    kind: Literal["engine_failed", "no_text"]
    detail: str


class TextEngine(Protocol):
    """Gives one answer for each request, in their order. Raises Failure only for what fails every request."""

    def generate(self, requests: Sequence[TextRequest]) -> list[Text | EngineError]: ...


def load(spec: dict, base_url: str | None = None) -> TextEngine:
    """The engine of a section.

    Args:
        spec: the section's keys, as plain data.
        base_url: of a server that the stage has started.
    """
    if spec["engine"] == "grammar":
        from voxmake.writing.grammar import Grammar

        return Grammar()
    if spec["engine"] == "transformers":
        from voxmake.writing.transformers import Transformers

        return Transformers(str(PROJECT_ROOT / spec["model"]), spec)
    from voxmake.writing.openai import OpenAI

    return OpenAI(base_url or spec["base_url"], spec)


def seed_of(run_seed: int, item_id: str, attempt: int) -> int:
    """Seed of one text, 0 to 2^31 - 1 (servers take a 32-bit signed one)."""
    return int(hashlib.sha256(f"{run_seed}\0{item_id}\0{attempt}".encode()).hexdigest()[:8], 16) & 0x7FFFFFFF


def without_thoughts(text: str) -> str:
    """The answer without thinking text: closed, never closed, or with its opening in the prompt's template."""
    text = _THOUGHT.sub("", text)
    return _THOUGHT_END.sub("", text).strip()


def finished(text: str, complete: bool) -> Text | EngineError:
    """What an engine said, as a value: cut short or empty after thinking is no text."""
    if not complete:
        return EngineError("no_text", "cut short at max_tokens")
    plain = without_thoughts(text)
    return Text(plain) if plain else EngineError("no_text", "empty" if not text.strip() else "thinking only")
