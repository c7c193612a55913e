"""Worker processes on this machine: each is started anew, speaks through a pipe, and dies with the engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import wait

from voxmake.run.work import Engine, Item, Worker, WorkerSpec


class LocalWorker(Worker):
    """A process that runs worker.py.

    Args:
        gpus: what the process sees, as CUDA_VISIBLE_DEVICES; "": none.
        search_path: where it finds modules.
    """

    def __init__(self, slot: int, spec: WorkerSpec, gpus: str, search_path: Sequence[str]):
        self.slot, self.started_s, self.ready = slot, 0.0, False
        self.items: list[Item] = []
        self.pipe, theirs = Pipe()
        environment = os.environ | {
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # nvidia-smi's order, not fastest first
            "CUDA_VISIBLE_DEVICES": gpus,
            "PYTHONPATH": os.pathsep.join(path for path in search_path if path),
            # One core per worker: the engine makes the parallelism, not the libraries' thread pools.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            # Keep freed memory for the next item: giving back and faulting in again costs a fifth of the time.
            "MALLOC_MMAP_THRESHOLD_": str(256 << 20),
            "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
            "MALLOC_TOP_PAD_": str(16 << 20),
        }
        with spec.stderr.open("ab") as stderr:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "voxmake.run.worker", str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                pass_fds=[theirs.fileno()],
                env=environment,
            )
        theirs.close()
        with suppress(BrokenPipeError):  # it died already: that is its first message
            self.pipe.send(spec)

    def send(self, payloads: list) -> None:
        with suppress(BrokenPipeError):
            self.pipe.send(payloads)

    def receive(self) -> tuple:
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.popen.wait()
            self.pipe.close()
            return "died", self.popen.returncode

    def leave(self, ask: bool) -> dict[str, dict[str, str]]:
        facts: dict[str, dict[str, str]] = {}
        if ask:
            try:
                self.pipe.send(None)
                facts = self.pipe.recv()
            except (EOFError, BrokenPipeError, ConnectionResetError):
                facts = {}  # it died after its last item; the results are complete
        self.pipe.close()
        self.popen.wait()
        return facts

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()
        self.pipe.close()


class LocalEngine(Engine):
    """Worker processes on this machine, one per slot.

    Args:
        gpus: numbers of GPUs, as nvidia-smi counts them; each slot is pinned to one, in turn. Empty: no GPU.
    """

    def __init__(self, workers: int, gpus: Sequence[int] = ()):
        self.workers, self.gpus = workers, list(gpus)

    def start(self, slot: int, spec: WorkerSpec) -> Worker:
        gpu = str(self.gpus[slot % len(self.gpus)]) if self.gpus else ""
        return LocalWorker(slot, spec, gpu, sys.path)

    def messages(self, workers: list[Worker], timeout_s: float) -> list[Worker]:
        speaking = wait([worker.pipe for worker in workers], timeout=timeout_s)
        return [worker for worker in workers if worker.pipe in speaking]
