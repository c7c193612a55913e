"""Configuration: one YAML per project, validated before anything else happens.

A project file says `extends: base.yaml` and overrides what it needs; `--set key=value` overrides
once more. Every key belongs to a pydantic model, so an unknown one is an error that names its line
and the nearest known key. Sections hold result keys, which enter the run's hash; `execution:` holds
the keys that never change a byte of the result.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator

from voxmake.errors import ConfigError

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Section(BaseModel):
    """Base of every config section: unknown keys are errors, values can't change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Execution(Section):
    """How the work is done. These keys enter no hash and change no byte of a result."""

    engine: Literal["local", "ray"] = Field(
        "local", description="where workers run: processes on this machine, or on the nodes of a Ray cluster"
    )
    ray_address: str | None = Field(
        None,
        description="host:port of a Ray cluster on a loopback or private address; null: Ray starts on this machine alone",
    )
    workers: int | None = Field(None, ge=1, le=1024, description="worker processes; null: one per CPU core")
    gpus: list[int] = Field(
        default_factory=list,
        description="GPUs for stages with a model, numbered as nvidia-smi does; each worker process sees one; none: CPU",
    )
    workers_per_gpu: int = Field(1, ge=1, le=64, description="worker processes on each of these GPUs")
    batch_size: int = Field(
        8, ge=1, le=1024, description="clips at once for models that take several; halved when memory is short"
    )
    loader_workers: int = Field(2, ge=1, le=64, description="threads in each worker that read audio ahead of a model")
    progress: Literal["auto", "rich", "plain", "none"] = Field(
        "auto", description="auto: a live display on a terminal, plain lines elsewhere"
    )
    progress_every_s: float = Field(10.0, gt=0, description="seconds between plain progress lines")
    checkpoint_every_s: float = Field(
        300.0, ge=0, description="seconds between checkpoints of work that is one long computation (k-means, training)"
    )
    max_rejected_ratio: float = Field(
        0.05, ge=0, le=1, description="a run stops with exit code 65 when more of its items than this are rejected"
    )

    @field_validator("ray_address")
    @classmethod
    def _not_public(cls, address: str | None) -> str | None:
        """Who reaches Ray's ports can run code there (CVE-2023-48022)."""
        if address is None:
            return None
        host, _, port = address.rpartition(":")
        try:
            public = not ipaddress.ip_address(host.strip("[]")).is_private  # loopback is private as well
        except ValueError:
            raise ValueError("must be an IP address and a port, as in 10.0.0.5:6379") from None
        if public or not port.isdigit():
            raise ValueError("must be a loopback or private address and a port: who reaches Ray can run code there")
        return address


class Project(Section):
    """Keys at the top level of the file."""

    project: str = Field(
        "default",
        pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$",
        description="name of the folder of links under data/projects/",
    )
    seed: int = Field(42, ge=0, lt=2**32, description="seed of every random choice; each item derives its own from it")
    stages: list[str] = Field(default_factory=list, description="what `make all` runs; what these need is run as well")
    execution: Execution = Field(default_factory=Execution, description=str(Execution.__doc__))


# ---------------------------------------------------------------------------- YAML


class _Yaml12Loader(_Loader):
    """SafeLoader that reads scalars as YAML 1.2's core schema does and refuses duplicate keys.

    PyYAML follows YAML 1.1, where `1e-4` is a string, `no` is False and `0123` is 83.
    """

    yaml_implicit_resolvers: dict = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} must be a string", key_node.start_mark
                )
            if key in seen:
                problem = f"duplicate key {key!r}, first used on line {seen[key]}"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen[key] = line
        return super().construct_mapping(node, deep)


def _construct_int(loader: Any, node: yaml.ScalarNode) -> int:
    text = node.value
    return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)


def _construct_float(loader: Any, node: yaml.ScalarNode) -> float:
    return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


# https://yaml.org/spec/1.2.2/#103-core-schema
for _tag, _pattern, _first in [
    ("null", r"^(?:null|Null|NULL|~|)$", ["n", "N", "~", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+0123456789."),
    ),
]:
    _Yaml12Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
_Yaml12Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Yaml12Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def parse_yaml(text: str, name: str) -> tuple[Any, dict[tuple, int]]:
    """Parse one YAML document.

    Returns:
        the value, and the line of each key: {("audio", "target_db"): 12, …}.
    """
    loader = _Yaml12Loader(text)
    try:
        node = loader.get_single_node()
        lines: dict[tuple, int] = {}
        _collect_lines(node, (), lines)
        return (loader.construct_document(node) if node is not None else None), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply") from None
    finally:
        loader.dispose()


def _collect_lines(node: yaml.Node | None, path: tuple, lines: dict[tuple, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            lines[(*path, key.value)] = key.start_mark.line + 1
            _collect_lines(value, (*path, key.value), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*path, index)] = value.start_mark.line + 1
            _collect_lines(value, (*path, index), lines)


# ---------------------------------------------------------------------------- load


def read_layers(path: Path, _seen: tuple[Path, ...] = ()) -> tuple[dict, dict[tuple, str]]:
    """Read a config file and what it extends.

    Returns:
        the merged mapping, and for each key path the place that set it: "configs/demo.yaml:12".
    """
    if path.resolve() in _seen:
        raise ConfigError(f"{path}: extends itself by way of {' -> '.join(p.name for p in _seen)}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read as UTF-8 text: {error}") from None
    data, lines = parse_yaml(text, str(path))
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}:1: must be a mapping of keys, not a {type(data).__name__}")
    where = {key: f"{path}:{line}" for key, line in lines.items()}
    parent = data.pop("extends", None)
    if parent is None:
        return data, where
    if not isinstance(parent, str):
        raise ConfigError(f"{where[('extends',)]}: extends: must be one file name")
    base, base_where = read_layers(path.parent / parent, (*_seen, path.resolve()))
    return _merge(base, data), {**base_where, **where}


def _merge(base: Any, over: Any) -> Any:
    """Mappings merge key by key; anything else (lists too) is replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        return base | {key: _merge(base[key], value) if key in base else value for key, value in over.items()}
    return over


def _set_key(data: dict, where: dict[tuple, str], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {assignment}: must read key=value, as in --set audio.target_db=-23")
    path = tuple(key.strip().split("."))
    value, _ = parse_yaml(text, f"--set {assignment}")
    target = data
    for part in path[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise ConfigError(f"--set {assignment}: {part} is a value, not a section")
    target[path[-1]] = value
    for depth in range(1, len(path) + 1):
        where.setdefault(path[:depth], "--set")
    where[path] = f"--set {assignment}"


def config_model(sections: Mapping[str, type[BaseModel]]) -> type[Project]:
    """The model of a whole config file: the top-level keys and one field per section."""
    fields: dict[str, Any] = {
        name: (model, Field(default_factory=model, description=(model.__doc__ or "").strip()))
        for name, model in sections.items()
    }
    return create_model("Config", __base__=Project, **fields)


def load_config(path: Path, assignments: Iterable[str], sections: Mapping[str, type[BaseModel]]) -> Any:
    """Load, merge and validate a config file.

    Args:
        path: the YAML file.
        assignments: `key.path=value` strings from --set; the value is read as YAML.
        sections: section name -> model, of every stage there is.

    Returns:
        a frozen `Project` with one attribute per section.

    Raises:
        ConfigError: one line per fault, each with file, line and nearest known key.
    """
    data, where = read_layers(Path(path))
    for assignment in assignments:
        _set_key(data, where, assignment)
    model = config_model(sections)
    try:
        return model.model_validate(data, strict=False)
    except ValidationError as error:
        faults = [_explain(fault, where, model, str(path)) for fault in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(faults))) from None


def _explain(fault: Any, where: dict[tuple, str], model: type[BaseModel], path: str) -> str:
    """One line for one pydantic error: place, key, what is wrong, nearest key."""
    location = tuple(fault["loc"])
    known = next((where[location[:depth]] for depth in range(len(location), 0, -1) if location[:depth] in where), path)
    key = ".".join(str(part) for part in location)
    if fault["type"] != "extra_forbidden":
        got = "" if isinstance(fault["input"], dict) else f" (got {fault['input']!r})"
        return f"{known}: {key}: {fault['msg'].removeprefix('Value error, ')}{got}"
    everywhere = list(key_paths(model))
    parent, name = ".".join(str(part) for part in location[:-1] if isinstance(part, str)), str(location[-1])
    siblings = {full.rpartition(".")[2]: full for full in everywhere if full.rpartition(".")[0] == parent}
    near = [full for full in everywhere if full.rpartition(".")[2] == name][:1]  # the right key in the wrong section
    near = near or difflib.get_close_matches(name, siblings, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else "; `docs/config.md` lists the keys"
    return f"{known}: {key}: unknown key{hint}"


def key_paths(model: type[BaseModel], prefix: str = "") -> Iterable[str]:
    """Every key of a model in dotted form, sections before their keys."""
    for name, field in model.model_fields.items():
        yield prefix + name
        inner = section_model(field.annotation)
        if inner is not None:
            yield from key_paths(inner, f"{prefix}{name}.")


def section_model(annotation: Any) -> type[BaseModel] | None:
    """The model inside a field's type: `Audio`, `list[Source]` or `Gate | None` give the class."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := section_model(inner)) is not None:
            return found
    return None
