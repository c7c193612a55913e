"""One way to work through items: longest first, a dynamic queue, one process per slot.

A worker is a class. The engine makes one instance in each worker process (so a model loads once)
and calls it with one item at a time. A worker that crashes, hangs or runs out of its limits is
killed and replaced; the item in its hands is rejected, and nothing else is touched.

Where the processes are is all that engines differ in: on this machine (local.py) or on a Ray cluster (cluster.py).
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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


def target_of(worker: type) -> str:
    """The "module:Name" under which another process finds a worker class."""
    module = worker.__module__
    if module == "__main__":  # a script run by hand; its workers import it by its file name
        module = Path(sys.modules["__main__"].__file__ or "").stem
    return f"{module}:{worker.__qualname__}"


class Worker(Protocol):
    """One worker process, as the engine sees it.

    Attributes:
        items: in hand; the first one is answered next.
        started_s: when they were handed out, on the monotonic clock.
        ready: it has said that its model is loaded.
    """

    slot: int
    items: list[Item]
    started_s: float
    ready: bool

    def send(self, payloads: list[Any]) -> None:
        """Hand out work. A worker that is dead takes it as well: its death is the next message."""
        ...

    def receive(self) -> tuple:
        """The next message: as worker.py sends them, or ("died", exit code or None if its machine was lost)."""
        ...

    def leave(self, ask: bool) -> dict[str, dict[str, str]]:
        """Let it go, which unloads its model; if asked, it says what it was made of."""
        ...

    def kill(self) -> None: ...


class Engine:
    """Runs a worker over items. Outcomes come in any order; each item has exactly one.

    Attributes:
        workers: how many processes at most.
        gpus: numbers of this machine's GPUs that slots are pinned to, in turn.
    """

    workers: int
    gpus: Sequence[int] = ()

    def start(self, slot: int, spec: WorkerSpec) -> Worker:
        raise NotImplementedError

    def messages(self, workers: list[Worker], timeout_s: float) -> list[Worker]:
        """Those of the workers that have said something, or died; waits for the first one."""
        raise NotImplementedError

    def run(self, spec: WorkerSpec, items: Sequence[Item], observer: Observer) -> Iterator[Outcome]:
        # Longest first: the last item to finish is a short one, so no core idles at the end.
        queue = sorted(items, key=lambda item: (-item.cost, item.id), reverse=True)  # pop() takes the longest
        deaths: dict[str, int] = {}
        start_failures = 0
        workers = [self.start(slot, spec) for slot in range(min(self.workers, len(queue)))]
        try:
            while workers:
                observer.idle()
                speaking = self.messages(workers, _POLL_S)
                for worker in [w for w in workers if w in speaking or _overdue(w, spec)]:
                    if worker not in workers:
                        continue  # it was late, and has been let go in this very round
                    outcome, died = _receive(worker, spec, overdue=worker not in speaking)
                    if outcome is not None:
                        yield outcome
                    if died is None:
                        start_failures = 0
                        if worker.items:  # it has more in hand
                            continue
                        _hand_out(worker, queue, deaths, self._share(spec, queue), observer)
                        if not worker.items:
                            workers.remove(worker)
                            workers = _without_late(workers)
                            if facts := worker.leave(ask=not workers):
                                observer.leaving(facts)
                        continue
                    workers.remove(worker)
                    if not worker.ready:
                        start_failures += 1
                        if start_failures == _START_FAILURES:
                            raise Failure(f"{_START_FAILURES} workers died at their start ({died}); see {spec.stderr}")
                    # Each of them is suspect; from now on it is handed out alone, so that only the culprit dies twice.
                    for lost in reversed(worker.items):
                        deaths[lost.id] = deaths.get(lost.id, 0) + 1
                        if deaths[lost.id] == _DEATHS_PER_ITEM:
                            yield Outcome(lost, "rejected", reason="decoder_crash", detail=died, slot=worker.slot)
                        else:
                            queue.append(lost)
                    if queue:
                        workers.append(self.start(worker.slot, spec))
        finally:
            for worker in workers:
                worker.kill()

    def _share(self, spec: WorkerSpec, queue: list[Item]) -> int:
        """How many items to hand out: no more than leaves every worker its part of the rest."""
        return max(1, min(spec.at_once, len(queue) // self.workers))


def _without_late(workers: list[Worker]) -> list[Worker]:
    """Nothing is left to hand out: who has not started yet need not. On a cluster, its place may never come free."""
    for worker in workers:
        if not worker.ready:
            worker.kill()
    return [worker for worker in workers if worker.ready]


def _hand_out(worker: Worker, queue: list[Item], deaths: dict[str, int], share: int, observer: Observer) -> None:
    while queue and len(worker.items) < share and not (worker.items and queue[-1].id in deaths):
        worker.items.append(queue.pop())
        if worker.items[0].id in deaths:
            break
    worker.started_s = time.monotonic()
    if worker.items:
        observer.started(worker.slot, worker.items[0])
        worker.send([item.payload for item in worker.items])


def _overdue(worker: Worker, spec: WorkerSpec) -> bool:
    limit_s = spec.limits.cpu_s
    if not worker.items or limit_s is None:
        return False
    return time.monotonic() - worker.started_s > _HANG_FACTOR * limit_s * len(worker.items)


def _receive(worker: Worker, spec: WorkerSpec, overdue: bool) -> tuple[Outcome | None, str | None]:
    """Read one message; returns the outcome of the item in hand, if there is one, and what the worker died of."""

    def rejected(reason: str, detail: str, trace: str = "") -> Outcome:
        return Outcome(
            worker.items.pop(0), "rejected", reason=reason, detail=detail, trace=trace, slot=worker.slot
        )  # fmt: skip

    if overdue:
        worker.kill()
        detail = f"hung for {_HANG_FACTOR * (spec.limits.cpu_s or 0):g} s"
        return rejected("timeout", detail), detail
    kind, *content = worker.receive()
    if kind == "died":
        (code,) = content
        if worker.items and code == -signal.SIGXCPU:
            detail = f"more than {spec.limits.cpu_s:g} s of CPU time"
            return rejected("timeout", detail), detail
        return None, _cause(code)
    if kind == "fatal":
        raise Failure(content[0])
    if kind == "ready":
        worker.ready = True
        return None, None
    if kind == "ok":
        row, files = content
        return Outcome(worker.items.pop(0), "ok", row=row, files=files, slot=worker.slot), None
    return rejected(*content), None


def _cause(code: int | None) -> str:
    if code is None:
        return "its machine was lost"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
