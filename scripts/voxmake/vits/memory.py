"""How much memory there is, and how much was used: what the batch size is found from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MAX_BATCH = 64
SHARE = 0.7  # of what is free: batches of other shapes need other work space


def peak_bytes(device: torch.device) -> int:
    """The most memory that was used so far."""
    import resource

    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def free_bytes(device: torch.device) -> int:
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with Path("/proc/meminfo").open(encoding="ascii") as stream:
        return next(int(line.split()[1]) << 10 for line in stream if line.startswith("MemAvailable"))
