"""One way to work through items: longest first, a dynamic queue, one process per slot.

A worker is a class. The engine makes one instance in each worker process (so a model loads once)
and calls it with one item at a time. A worker that crashes, hangs or runs out of its limits is
killed and replaced; the item in its hands is rejected, and nothing else is touched.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal, Protocol

from voxmake.errors import Failure

_DEATHS_PER_ITEM = 2  # an item that was in hand when two workers died is rejected
_START_FAILURES = 3  # so many workers in a row that die before they are ready stop the run
_HANG_FACTOR = 4  # wall-clock limit in units of the CPU limit: only a hang gets there
_POLL_S = 0.2


@dataclass(frozen=True)
class Item:
    """One piece of work.

    Attributes:
        id: unique within the run.
        payload: what the worker is called with; plain data.
        cost: relative size (bytes, seconds); the largest start first.
        source: where it comes from, for rejected.csv.
        holds: (id, source) of what it stands for, where one call works on several: they count one by one.
    """

    id: str
    payload: Any
    cost: float = 0.0
    source: str = ""
    holds: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Limits:
    """What one item may take. None: no limit (a GPU worker can't live under an address-space limit)."""

    cpu_s: float | None = None
    memory_mb: int | None = None


@dataclass(frozen=True)
class WorkerSpec:
    """How to make a worker in another process: class "module:Name", its arguments, its limits.

    With `at_once` above 1 a worker is handed so many items and answers through its method `many(payloads, outputs)`,
    a generator of rows (or Rejected) in their order: so it can read ahead and work in batches.
    """

    target: str
    args: dict[str, Any]
    limits: Limits
    output: Path  # folder that results are written below
    stderr: Path  # file that the worker's stderr is appended to
    at_once: int = 1


@dataclass(frozen=True)
class Outcome:
    """What became of an item: a row and its files, or a reason.

    `files` maps the name of each result file to (size in bytes, sha256). `trace` is the traceback
    of an internal error, for the log.
    """

    item: Item
    status: Literal["ok", "rejected"]
    row: dict[str, Any] = field(default_factory=dict)
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    reason: str = ""
    detail: str = ""
    trace: str = ""
    slot: int = 0


class Observer(Protocol):
    """Told what each worker does; the progress display is one."""

    def started(self, slot: int, item: Item) -> None: ...
    def idle(self) -> None: ...
    def leaving(self, facts: dict[str, dict[str, str]]) -> None: ...


class Engine(Protocol):
    """Runs a worker over items. Outcomes come in any order; each item has exactly one."""

    def run(self, spec: WorkerSpec, items: Sequence[Item], observer: Observer) -> Iterator[Outcome]: ...


def target_of(worker: type) -> str:
    """The "module:Name" under which another process finds a worker class."""
    module = worker.__module__
    if module == "__main__":  # a script run by hand; its workers import it by its file name
        module = Path(sys.modules["__main__"].__file__ or "").stem
    return f"{module}:{worker.__qualname__}"


@dataclass
class _Process:
    slot: int
    popen: subprocess.Popen
    pipe: Connection
    items: list[Item] = field(default_factory=list)  # in hand; the first one is answered next
    started_s: float = 0.0
    ready: bool = False


class LocalEngine:
    """Worker processes on this machine, one per slot.

    Args:
        gpus: numbers of GPUs, as nvidia-smi counts them; each slot is pinned to one, in turn. Empty: no GPU.
    """

    def __init__(self, workers: int, gpus: Sequence[int] = ()):
        self.workers, self.gpus = workers, list(gpus)

    def run(self, spec: WorkerSpec, items: Sequence[Item], observer: Observer) -> Iterator[Outcome]:
        # Longest first: the last item to finish is a short one, so no core idles at the end.
        queue = sorted(items, key=lambda item: (-item.cost, item.id), reverse=True)  # pop() takes the longest
        deaths: dict[str, int] = {}
        start_failures = 0
        processes = [_start(slot, spec, self.gpus) for slot in range(min(self.workers, len(queue)))]
        try:
            while processes:
                observer.idle()
                ready = wait([process.pipe for process in processes], timeout=_POLL_S)
                for process in [p for p in processes if p.pipe in ready or _overdue(p, spec)]:
                    outcome, alive = _receive(process, spec)
                    if outcome is not None:
                        yield outcome
                    if alive:
                        start_failures = 0
                        if process.items:  # it has more in hand
                            continue
                        _hand_out(process, queue, deaths, self._share(spec, queue), observer)
                        if not process.items:
                            processes.remove(process)
                            facts = _stop(process, ask=not processes)
                            if facts:
                                observer.leaving(facts)
                        continue
                    processes.remove(process)
                    if not process.ready:
                        start_failures += 1
                        if start_failures == _START_FAILURES:
                            raise Failure(
                                f"{_START_FAILURES} workers died at their start ({_cause(process)}); see {spec.stderr}"
                            )
                    # Each of them is suspect; from now on it is handed out alone, so that only the culprit dies twice.
                    for lost in reversed(process.items):
                        deaths[lost.id] = deaths.get(lost.id, 0) + 1
                        if deaths[lost.id] == _DEATHS_PER_ITEM:
                            yield Outcome(
                                lost, "rejected", reason="decoder_crash", detail=_cause(process), slot=process.slot
                            )
                        else:
                            queue.append(lost)
                    if queue:
                        processes.append(_start(process.slot, spec, self.gpus))
        finally:
            for process in processes:
                _kill(process)

    def _share(self, spec: WorkerSpec, queue: list[Item]) -> int:
        """How many items to hand out: no more than leaves every worker its part of the rest."""
        return max(1, min(spec.at_once, len(queue) // self.workers))


def _start(slot: int, spec: WorkerSpec, gpus: list[int]) -> _Process:
    ours, theirs = Pipe()
    environment = os.environ | {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # nvidia-smi's order, not fastest first
        "CUDA_VISIBLE_DEVICES": str(gpus[slot % len(gpus)]) if gpus else "",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
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
        popen = subprocess.Popen(
            [sys.executable, "-m", "voxmake.run.worker", str(theirs.fileno()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            pass_fds=[theirs.fileno()],
            env=environment,
        )
    theirs.close()
    process = _Process(slot, popen, ours, started_s=time.monotonic())
    with suppress(BrokenPipeError):  # it died already: wait() shows its end of file and the caller counts it
        ours.send(spec)
    return process


def _hand_out(process: _Process, queue: list[Item], deaths: dict[str, int], share: int, observer: Observer) -> None:
    while queue and len(process.items) < share and not (process.items and queue[-1].id in deaths):
        process.items.append(queue.pop())
        if process.items[0].id in deaths:
            break
    process.started_s = time.monotonic()
    if not process.items:
        return
    observer.started(process.slot, process.items[0])
    with suppress(BrokenPipeError):  # as in _start
        process.pipe.send([item.payload for item in process.items])


def _overdue(process: _Process, spec: WorkerSpec) -> bool:
    limit_s = spec.limits.cpu_s
    if not process.items or limit_s is None:
        return False
    return time.monotonic() - process.started_s > _HANG_FACTOR * limit_s * len(process.items)


def _receive(process: _Process, spec: WorkerSpec) -> tuple[Outcome | None, bool]:
    """Read one message; returns the outcome of the item in hand, if there is one, and whether the worker lives."""
    item = process.items[0] if process.items else None
    if not process.pipe.poll():  # overdue
        _kill(process)
        process.items.pop(0)
        detail = f"hung for {_HANG_FACTOR * (spec.limits.cpu_s or 0):g} s"
        return Outcome(item, "rejected", reason="timeout", detail=detail, slot=process.slot), False
    try:
        kind, *content = process.pipe.recv()
    except (EOFError, ConnectionResetError):
        process.popen.wait()
        process.pipe.close()
        if item is not None and process.popen.returncode == -signal.SIGXCPU:
            process.items.pop(0)
            detail = f"more than {spec.limits.cpu_s:g} s of CPU time"
            return Outcome(item, "rejected", reason="timeout", detail=detail, slot=process.slot), False
        return None, False
    if kind == "fatal":
        raise Failure(content[0])
    if kind == "ready":
        process.ready = True
        return None, True
    process.items.pop(0)
    if kind == "ok":
        row, files = content
        return Outcome(item, "ok", row=row, files=files, slot=process.slot), True
    reason, detail, trace = content
    return Outcome(item, "rejected", reason=reason, detail=detail, trace=trace, slot=process.slot), True


def _cause(process: _Process) -> str:
    code = process.popen.returncode
    return f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"


def _stop(process: _Process, ask: bool) -> dict[str, dict[str, str]]:
    """Let a worker go, which unloads its model; the last one is asked what it was made of."""
    facts: dict[str, dict[str, str]] = {}
    if ask:
        try:
            process.pipe.send(None)
            facts = process.pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            facts = {}  # it died after its last item; the results are complete
    process.pipe.close()
    process.popen.wait()
    return facts


def _kill(process: _Process) -> None:
    process.popen.kill()
    process.popen.wait()
    process.pipe.close()
