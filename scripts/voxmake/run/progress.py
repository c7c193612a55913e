"""What a person sees while a stage works: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from voxmake.run.work import Item, Outcome

_REFRESH_S = 0.25


def gpu_use(number: int) -> tuple[int, int] | None:
    """Use in percent and memory in bytes of a GPU, by NVML; None where there is none."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(number)
        return pynvml.nvmlDeviceGetUtilizationRates(handle).gpu, pynvml.nvmlDeviceGetMemoryInfo(handle).used
    except pynvml.NVMLError:
        return None


def gpu_facts(number: int, when: str) -> dict[str, int]:
    """What run.json says of a GPU: its memory in use before and after the work."""
    use = gpu_use(number)
    return {f"memory_{when}_mib": use[1] >> 20} if use else {}


class Progress:
    """Counts outcomes and shows them. Use as a context manager around the engine's loop.

    Args:
        label: what the items are, in the plural ("clips").
        total: items in all; resumed: how many of them an earlier attempt finished.
        mode: execution.progress of the config.
        gpus: numbers of the GPUs that the workers are on, in turn.
        shown: column of a row whose last value is shown for each worker.
    """

    def __init__(
        self,
        log: logging.Logger,
        label: str,
        total: int,
        resumed: int,
        workers: int,
        mode: str,
        every_s: float,
        gpus: Sequence[int] = (),
        shown: str = "",
    ):
        self.log, self.label, self.total, self.resumed, self.every_s = log, label, total, resumed, every_s
        self.done = self.rejected = 0
        self.begun_s = self.shown_s = time.monotonic()
        self.workers: dict[int, list[Any]] = {slot: ["", 0] for slot in range(workers)}  # item in hand, items finished
        self.gpus, self.shown, self.last = list(gpus), shown, {}
        self.gpu_facts = {str(gpu): facts for gpu in self.gpus if (facts := gpu_facts(gpu, "before"))}
        live = mode == "rich" or (mode == "auto" and sys.stderr.isatty())
        self.mode = "live" if live else "none" if mode == "none" else "plain"
        self.display: Any = None
        self.facts: dict[str, dict[str, str]] = {}  # what a worker told of itself at its end

    def __enter__(self) -> Progress:
        if self.mode == "live":
            from rich.console import Console
            from rich.live import Live

            self.display = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            self.display.start()  # while it is up, it stands in for sys.stderr, so that lines appear above it
            self._log_to(sys.stderr)
        return self

    def __exit__(self, *_: object) -> None:
        for gpu, facts in self.gpu_facts.items():
            facts |= gpu_facts(int(gpu), "after")
        if self.display is not None:
            self.display.stop()
            self._log_to(sys.stderr)

    def _log_to(self, stream: Any) -> None:
        for handler in self.log.handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(stream)

    def started(self, slot: int, item: Item) -> None:
        self.workers[slot][0] = item.id

    def finished(self, outcome: Outcome) -> None:
        self.done += 1
        self.rejected += outcome.status == "rejected"
        self.workers[outcome.slot][0] = ""
        self.workers[outcome.slot][1] += 1
        if self.shown and outcome.status == "ok":
            self.last[outcome.slot] = f"{self.shown} {outcome.row[self.shown]:.3f}"
        self.idle()

    def leaving(self, facts: dict[str, dict[str, str]]) -> None:
        self.facts = facts

    def idle(self) -> None:
        now_s = time.monotonic()
        if self.mode == "live" and now_s - self.shown_s >= _REFRESH_S:
            self.shown_s = now_s
            self.display.update(self._table(), refresh=True)
        elif self.mode == "plain" and now_s - self.shown_s >= self.every_s:
            self.shown_s = now_s
            self.log.info(self.line())
            for line in self.worker_lines() if self.shown else ():
                self.log.info(line)

    def worker_lines(self) -> list[str]:
        """One line for each worker: `worker 0: GPU 1, 98 %, 9.1 GiB; 120 clips, 412/h; similarity 0.973`."""
        elapsed_s = max(time.monotonic() - self.begun_s, 1e-6)
        return [
            f"worker {slot}: {self._gpu(slot)}{count} {self.label}, {3600 * count / elapsed_s:.0f}/h; {self.last.get(slot, '')}"
            for slot, (_, count) in self.workers.items()
        ]

    def _gpu(self, slot: int) -> str:
        if not self.gpus:
            return ""
        number = self.gpus[slot % len(self.gpus)]
        use = gpu_use(number)
        return f"GPU {number}, {use[0]} %, {use[1] / 2**30:.1f} GiB; " if use else f"GPU {number}; "

    def line(self) -> str:
        """`120/2000 clips (6 %), 3 rejected, 88.2/s, ETA 0:00:21`."""
        finished = self.resumed + self.done
        elapsed_s = max(time.monotonic() - self.begun_s, 1e-6)
        rate = self.done / elapsed_s
        left = self.total - finished
        eta = str(timedelta(seconds=round(left / rate))) if rate else "unknown"
        share = 100 * finished / self.total if self.total else 100
        return (
            f"{finished}/{self.total} {self.label} ({share:.0f} %), {self.rejected} rejected, {rate:.1f}/s, ETA {eta}"
        )

    def _table(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        elapsed_s = max(time.monotonic() - self.begun_s, 1e-6)
        table = Table.grid(padding=(0, 2))
        for slot, (item, count) in self.workers.items():
            rate = f"{3600 * count / elapsed_s:.0f}/h" if self.shown else f"{count / elapsed_s:.1f}/s"
            table.add_row(f"worker {slot}", self._gpu(slot), f"{count}", rate, self.last.get(slot, ""), item)
        outer = Table.grid()
        outer.add_row(self.line())
        outer.add_row(ProgressBar(total=max(self.total, 1), completed=self.resumed + self.done, width=60))
        outer.add_row(table)
        return outer
