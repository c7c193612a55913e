"""Training in one process, or in several under torchrun: the same steps, gradients averaged between them.

The process of rank 0 is the run: it takes the lock, writes files and decides. The others call `follow`: they wait for jobs
that it hands them with `World.share`, and leave when it has none any more.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

_PATIENCE = timedelta(days=2)  # others wait for rank 0 while it prepares data or validates


def under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def choose_gpus(gpus: list[int]) -> None:
    """Let this process see the GPU of `execution.gpus`, or none; with several, become torchrun with a process for each.

    To be called outside of torchrun, before anything asks PyTorch for a GPU.
    """
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # nvidia-smi's order, as execution.gpus counts
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
    if len(gpus) > 1:
        command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={len(gpus)}", *sys.argv]
        os.execv(sys.executable, [sys.executable, *command])  # noqa: S606 - an argv list, no shell


class World:
    """The processes of a training.

    Attributes:
        rank, size: 0 and 1 without torchrun.
        device: what this process computes on.
    """

    def __init__(self, threads: int | None = None):
        import torch
        import torch.distributed as dist

        self.dist, self.torch = dist, torch
        self.rank, self.size, local = 0, 1, 0
        if under_torchrun():
            self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
            local = int(os.environ["LOCAL_RANK"])
        gpus = torch.cuda.device_count()
        self.device = torch.device("cuda", local % gpus) if gpus else torch.device("cpu")
        if gpus:
            torch.cuda.set_device(self.device)
        elif threads:
            torch.set_num_threads(max(1, threads // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
        self.control = None
        if self.size > 1:
            if not dist.is_initialized():
                dist.init_process_group("nccl" if gpus else "gloo", timeout=_PATIENCE)
            # Objects and decisions go by the CPU: waiting there costs a GPU nothing.
            self.control = dist.new_group(backend="gloo", timeout=_PATIENCE)

    def share(self, value: Any = None) -> Any:
        """Rank 0's value, in every process."""
        if self.size == 1:
            return value
        held = [value]
        self.dist.broadcast_object_list(held, src=0, group=self.control)
        return held[0]

    def average_gradients(self, parameters: Iterable[Any]) -> None:
        """Replace gradients by their mean over all processes; in one piece, one message."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self.torch.cat([gradient.reshape(-1) for gradient in gradients])
        self.dist.all_reduce(flat)
        flat /= self.size
        at = 0
        for gradient in gradients:
            gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
            at += gradient.numel()

    def mean(self, value: Any) -> Any:
        """Mean of a tensor over all processes."""
        if self.size > 1:
            self.dist.all_reduce(value)
            value = value / self.size
        return value

    def close(self) -> None:
        if self.size > 1:
            self.dist.destroy_process_group()


def follow(world: World, work: Callable[[World, Any], None]) -> int:
    """What a process of rank 1 and above does: every job that rank 0 shares, until it shares None."""
    while (job := world.share()) is not None:
        work(world, job)
    world.close()
    return 0
