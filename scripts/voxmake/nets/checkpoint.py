"""State of one long computation on disk: replaced at once, bound to what it belongs to, loaded without pickle.

`Checkpoint` keeps arrays and facts; `pack` and `unpack` make them of what a training has to keep: state dicts of
modules and optimisers, random states, numbers and lists, nested as they are.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np


def write_synced(path: Path, data: bytes) -> None:
    """Replace a file so that a reader, or a machine that lost its power, has the old bytes or the new ones."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


class Checkpoint:
    """Arrays and facts in one safetensors file.

    Args:
        path: the file; its folder must exist.
        identity: what the state belongs to (data and settings); a file of another is not used.
        every_s: seconds between saves; 0 is due always.
    """

    def __init__(self, path: Path, identity: str, every_s: float):
        self.path, self.identity, self.every_s = path, identity, every_s
        self.saved_s = time.monotonic()

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Arrays and facts, or None if there is nothing to go on from."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "np") as stream:
                facts = json.loads(stream.metadata()["state"])
                arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - no mapping
        except (FileNotFoundError, SafetensorError):  # none yet, or half of one: begin anew
            return None
        return (arrays, facts) if facts.pop("identity") == self.identity else None

    def due(self) -> bool:
        return time.monotonic() - self.saved_s >= self.every_s

    def save(self, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        from safetensors.numpy import save

        arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        write_synced(self.path, save(arrays, {"state": json.dumps(facts | {"identity": self.identity})}))
        self.saved_s = time.monotonic()


def pack(state: Any) -> tuple[dict[str, np.ndarray], Any]:
    """Split nested dicts and lists into tensors, by path, and the rest, which JSON can hold.

    Args:
        state: dicts with keys of any plain type, lists, torch tensors of types that numpy knows, plain values.
    """
    import torch

    arrays: dict[str, np.ndarray] = {}

    def walk(value: Any, path: str) -> Any:
        if isinstance(value, torch.Tensor):
            arrays[path] = value.detach().cpu().numpy()
            return {"tensor": path}
        if isinstance(value, dict):  # pairs: JSON would turn an optimiser's integer keys into strings
            return {"pairs": [[key, walk(inner, f"{path}/{key}")] for key, inner in value.items()]}
        if isinstance(value, list | tuple):
            return {"list": [walk(inner, f"{path}/{number}") for number, inner in enumerate(value)]}
        return value

    return arrays, walk(state, "")


def unpack(arrays: dict[str, np.ndarray], facts: Any) -> Any:
    """What `pack` was given, tuples as lists."""
    import torch

    if not isinstance(facts, dict):
        return facts
    [(kind, content)] = facts.items()
    if kind == "tensor":
        return torch.from_numpy(arrays[content].copy())
    if kind == "pairs":
        return {key: unpack(arrays, inner) for key, inner in content}
    return [unpack(arrays, inner) for inner in content]


def random_state() -> dict[str, Any]:
    """PyTorch's generators, CPU and GPUs; other draws of a training derive from (seed, number of the draw)."""
    import torch

    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def restore_random_state(state: dict[str, Any]) -> None:
    import torch

    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
