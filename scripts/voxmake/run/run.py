"""One run of one stage: what a script works with between reading its config and publishing."""

from __future__ import annotations

import csv
import io
import json
import logging
import operator
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from voxmake.errors import EXPECTED, PASSING, REASONS, BadInput, Failure, GateFailed, Rejected
from voxmake.run.digest import file_sha256
from voxmake.run.progress import Progress
from voxmake.run.provenance import git_commit, source_digests, versions
from voxmake.run.stage import Planned
from voxmake.run.store import MANIFEST, WorkDir, check_run
from voxmake.run.work import Engine, Item, Limits, Outcome, WorkerSpec, target_of

METADATA = "metadata.csv"
REJECTED = "rejected.csv"
# A cell that a spreadsheet would take for a formula; rejected.csv is made to be opened in one.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class DryRun(Exception):
    """--dry-run reached the point where work would begin."""


@dataclass(frozen=True)
class Published:
    """A finished run that this one reads."""

    path: Path
    hash12: str

    def rows(self) -> list[dict[str, str]]:
        """The rows of its metadata.csv."""
        return read_table(self.path / METADATA)


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file with a header line."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A CSV file: LF, a header line, empty cells for None."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def rejected_csv(rows: Iterable[Sequence[str]]) -> str:
    """rejected.csv, with cells that a spreadsheet would run as a formula made plain text."""
    plain = ([f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell for cell in row] for row in rows)
    return csv_text(["id", "source", "reason", "detail"], plain)


class Run:
    """A run being made.

    Attributes:
        config: the validated config.
        inputs: published runs by stage name.
        log: goes to stderr and to run.log.
        notes: facts for run.json that only the stage knows (models, devices …).
    """

    def __init__(
        self,
        planned: Planned,
        config: Any,
        inputs: dict[str, Published],
        log: logging.Logger,
        *,
        work: WorkDir | None,
        limit: int | None = None,
    ):
        self.planned, self.config, self.inputs, self.log, self.limit = planned, config, inputs, log, limit
        self.work = work  # None in a dry run
        self.begun = datetime.now(UTC)
        self.begun_s = time.monotonic()
        self.notes: dict[str, Any] = {}
        self.checks: list[dict[str, Any]] = []
        self._stats: dict[str, dict[str, Any]] = {}
        self._rejected: dict[str, list[str]] = {}  # key -> id, source, reason, detail
        self._files: dict[str, tuple[int, str]] = {}
        self._made: set[str] = set()
        self._items_in = 0
        self._worker_facts: dict[str, dict[str, str]] = {}

    @property
    def path(self) -> Path:
        """The folder that results are written below."""
        if self.work is None:
            raise DryRun
        return self.work.path

    # ------------------------------------------------------------------ items

    def reject(self, item_id: str, source: str, reason: str, detail: str = "") -> None:
        """Put an item that never reached a worker into rejected.csv."""
        Rejected(reason)  # the code must be a known one
        self._items_in += 1
        self._rejected[f"listed\0{source}\0{item_id}\0{reason}"] = [item_id, source, reason, detail]

    def take_in(self, count: int) -> None:
        """Count items that come in where no worker is called with each of them."""
        self._items_in += count

    def map(
        self,
        items: Sequence[Item],
        worker: type,
        args: dict[str, Any],
        limits: Limits,
        label: str,
        *,
        at_once: int = 1,
        batch: int | None = None,
        again: bool = False,
        on_gpus: bool = False,
        each: Callable[[str, dict], None] | None = None,
        shown: str = "",
    ) -> dict[str, dict]:
        """Call a worker on every item, in other processes, and journal what comes back.

        Args:
            items: ids are unique.
            worker: a class; `worker(**args)` is made once in each process and called with
                (payload, output) for each item. It returns a row, a dict of plain values.
            label: what the items are, in the plural, for the display.
            at_once: items that a worker is handed together; above 1 it needs a method `many`.
            batch: for work whose result hangs on what is in a batch: call the worker with a list of up to so many
                payloads instead; it returns a list of the same length: of each item its row, or a `Rejected`.
                Groups are cut from the items sorted by id, so what is done already never moves another item
                into another group.
            again: the items came in before, under other ids. They are not counted once more, and one that is
                rejected is only missing from what comes back.
            on_gpus: it has a model: one process for each slot of `execution.gpus`, if there are any.
            each: told of every new row, at once, by id.
            shown: the column whose last value the display shows for each worker.

        Returns:
            the rows of the items that were not rejected, by id, sorted by id.
        """
        items = sorted(items, key=lambda item: item.id)
        if self.limit is not None and not again:
            items = items[: self.limit]
        if self.work is None:
            self.log.info("would work on %d %s; %d rejected already", len(items), label, len(self._rejected))
            raise DryRun
        self._items_in += 0 if again else sum(len(item.holds) or 1 for item in items)
        wanted = {item.id: item for item in items}
        if len(wanted) < len(items):
            raise ValueError("two items have one id")
        target = target_of(worker)
        rows = self._resume(target, wanted, again)
        todo = [item for key, item in wanted.items() if key not in rows and f"{target}\0{key}" not in self._rejected]
        handed = todo if batch is None else _grouped(items, {item.id for item in todo}, batch)
        execution = self.config.execution
        engine = _engine(execution, on_gpus and bool(execution.gpus))
        self.notes |= {"engine": execution.engine, "workers": engine.workers} | self.notes
        if len(todo) < len(items):
            self.log.info("%d of %d %s are done already", len(items) - len(todo), len(items), label)
        spec = WorkerSpec(target, args, limits, self.path, self.path / "run.log", at_once)
        progress = Progress(
            self.log, label, len(items), len(items) - len(todo), engine.workers, execution.progress,
            execution.progress_every_s, engine.gpus, shown,
        )  # fmt: skip
        with progress, closing(engine.run(spec, handed, progress)) as outcomes:
            for outcome in outcomes:
                for single in [outcome] if batch is None else _singles(outcome, wanted):
                    self._journal(target, single, rows, again)
                    if each is not None and single.status == "ok":
                        each(single.item.id, single.row)
                    progress.finished(single)
        if progress.gpu_facts:
            self.notes["gpus"] = progress.gpu_facts
        if progress.facts:
            self.work.journal.append({"work": target, "status": "facts", "facts": progress.facts})
            self._learn(progress.facts)
        self.log.info(progress.line())
        return dict(sorted(rows.items()))

    def _learn(self, facts: dict[str, dict[str, str]]) -> None:
        """What a worker process says of itself: versions and sources of what it loaded."""
        for name, values in facts.items():
            self._worker_facts.setdefault(name, {}).update(values)

    def rejections(self, worker: type) -> dict[str, tuple[str, str]]:
        """Reason and detail of the items that a worker's `map` rejected, by id."""
        prefix = f"{target_of(worker)}\0"
        return {
            key.removeprefix(prefix): (cells[2], cells[3])
            for key, cells in self._rejected.items()
            if key.startswith(prefix)
        }

    def _journal(self, target: str, outcome: Outcome, rows: dict[str, dict], again: bool) -> None:
        item = outcome.item
        entry: dict[str, Any] = {"work": target, "id": item.id, "status": outcome.status}
        if outcome.status == "ok":
            entry |= {"row": outcome.row, "files": outcome.files}
            rows[item.id] = outcome.row
            self._files |= outcome.files
        else:
            entry["cells"] = [[*one, outcome.reason, outcome.detail] for one in item.holds or ((item.id, item.source),)]
            if not again:
                self._refuse(target, item.id, entry["cells"])
            why = f"{outcome.reason}, {outcome.detail}" if outcome.detail else outcome.reason
            self.log.warning("%s rejected: %s (%s)", item.id, why, item.source)
            if outcome.trace:
                self.log.debug(outcome.trace)
        self.work.journal.append(entry)

    def _refuse(self, target: str, item_id: str, cells: list[list[str]]) -> None:
        for number, row in enumerate(cells):
            self._rejected[f"{target}\0{item_id}" + (f"\0{number}" if number else "")] = row

    def _resume(self, target: str, wanted: dict[str, Item], again: bool) -> dict[str, dict]:
        """Rows of the items that the journal knows and whose files are still what it says."""
        rows: dict[str, dict] = {}
        for entry in self.work.journal.entries:
            if entry["status"] == "facts":
                self._learn(entry["facts"])
                continue
            if entry["work"] != target or entry["id"] not in wanted:
                continue
            if entry["status"] == "rejected":
                if again or entry["cells"][0][2] in PASSING:
                    continue
                self._refuse(target, entry["id"], entry["cells"])
                continue
            files = {name: tuple(facts) for name, facts in entry["files"].items()}
            if all(_holds(self.path / name, facts) for name, facts in files.items()):
                rows[entry["id"]] = entry["row"]
                self._files |= files
        return rows

    # ------------------------------------------------------------------ results

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write one result file."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self._made.add(name)

    def add_file(self, name: str) -> None:
        """Declare a result file that the stage itself wrote below `path`, by a library that wants a path."""
        self._made.add(name)

    def digest(self, name: str) -> str:
        """sha256 of a file that a worker wrote."""
        return self._files[name][1]

    def leave_out(self, folder: str) -> None:
        """Files of workers below this folder were for this run only: publishing removes them."""
        self._files = {name: facts for name, facts in self._files.items() if not name.startswith(f"{folder}/")}

    def write_text(self, name: str, text: str) -> None:
        """Write one result file in UTF-8."""
        self.write_bytes(name, text.encode())

    def write_json(self, name: str, value: Any) -> None:
        self.write_text(name, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def write_table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any] | dict[str, Any]]) -> None:
        """Write a CSV: UTF-8, LF, a header line, empty cells for None."""
        cells = ([row.get(column) for column in columns] if isinstance(row, dict) else row for row in rows)
        self.write_text(name, csv_text(columns, cells))

    def stat(self, name: str, value: float | int | str | None, unit: str, description: str) -> None:
        """One number of stats.json; the description says what it means to somebody new."""
        self._stats[name] = {"value": value, "unit": unit, "description": description}

    def check(self, name: str, value: float, relation: str, limit: float) -> None:
        """One condition of the quality gate: relation is ">=", "<=" or "<"."""
        passed = {">=": operator.ge, "<=": operator.le, "<": operator.lt}[relation](value, limit)
        self.checks.append({"name": name, "value": value, "relation": relation, "limit": limit, "passed": passed})

    # ------------------------------------------------------------------ the end

    def publish(self, rows_out: int) -> None:
        """Account for every item, write the records, and make the run visible at once.

        Args:
            rows_out: items that came through; with the rejected ones they must be all that came in.

        Raises:
            BadInput: nothing came through, or too much was rejected. Nothing is published; the
                work is kept, so the next run goes on from here.
            GateFailed: after publishing, if a check of the gate failed.
        """
        rejected = sorted(self._rejected.values())
        if self._items_in != rows_out + len(rejected):
            raise AssertionError(
                f"{self._items_in} items came in, {rows_out} went out and {len(rejected)} were rejected"
            )
        self.write_text(REJECTED, rejected_csv(rejected))
        reasons: dict[str, int] = {}
        for _, _, reason, _ in rejected:
            reasons[reason] = reasons.get(reason, 0) + 1
        expected = sum(count for reason, count in reasons.items() if reason in EXPECTED)
        faults, looked_at = len(rejected) - expected, self._items_in - expected
        ratio = faults / looked_at if looked_at else 0.0
        tally = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        kept = self.path / REJECTED
        # The hash names what the server holds: a set without some of it may not be published under that name.
        if failed := reasons.get("download_failed"):
            raise Failure(
                f"{failed} of {self._items_in} items could not be downloaded; see {kept}; run again to fetch them"
            )
        if rows_out == 0:
            raise BadInput(
                f"nothing is left of {self._items_in} items ({tally}); see {kept}, mend the input, run again"
            )
        limit = self.config.execution.max_rejected_ratio
        if ratio > limit:
            raise BadInput(
                f"{faults} of {looked_at} items rejected ({tally}), more than execution.max_rejected_ratio "
                f"{limit:g}; see {kept}, mend the input or raise the limit, run again"
            )
        self.stat("items_in", self._items_in, "items", "what the stage was given")
        self.stat("items_out", rows_out, "items", "what came through")
        self.stat("items_rejected", len(rejected), "items", "what did not, each with its reason in rejected.csv")
        for reason, count in sorted(reasons.items()):
            self.stat(f"rejected_{reason}", count, "items", REASONS[reason])
        self.write_json("stats.json", dict(sorted(self._stats.items())))
        record = json.dumps(self._record(), indent=2, ensure_ascii=False, default=str) + "\n"
        (self.path / "run.json").write_text(record, encoding="utf-8")
        stage = self.planned.stage
        header = f"voxmake {stage.name}/{self.planned.hash12} version {stage.version}"
        told = f" ({tally}): {self.work.final / REJECTED}" if rejected else ""
        self.log.info("%d in, %d out, %d rejected%s", self._items_in, rows_out, len(rejected), told)
        self.work.publish({*self._files, *self._made}, self._files, header)
        failed = [c for c in self.checks if not c["passed"]]
        if failed:
            told = "; ".join(f"{c['name']} is {c['value']:g}, must be {c['relation']} {c['limit']:g}" for c in failed)
            raise GateFailed(f"gate FAIL: {told} ({self.work.final})")

    def _record(self) -> dict[str, Any]:
        """run.json: everything needed to judge this run or to make it again."""
        config = self.config.model_dump(mode="json")
        return {
            "stage": self.planned.stage.name,
            "hash": self.planned.hash12,
            "identity": self.planned.identity,
            "config": config,
            "inputs": {
                name: {"hash": run.hash12, "manifest_sha256": _manifest_digest(run.path)}
                for name, run in self.inputs.items()
            },
            "gate": {"verdict": "FAIL" if any(not c["passed"] for c in self.checks) else "PASS", "checks": self.checks},
            "started": self.begun.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self.begun_s, 3),
            "versions": versions() | self._worker_facts.get("versions", {}),
            "sources": source_digests() | self._worker_facts.get("sources", {}),
            "commit": git_commit(),
            "host": {"cpu_cores": os.cpu_count(), "machine": platform.machine(), "system": platform.platform()},
            **self.notes,
        }


def _engine(execution: Any, on_gpus: bool) -> Engine:
    if execution.engine == "ray":
        from voxmake.run.cluster import RayEngine

        return RayEngine(execution.ray_address, execution.workers, execution.workers_per_gpu if on_gpus else 0)
    from voxmake.run.local import LocalEngine

    gpus = execution.gpus if on_gpus else []
    workers = len(gpus) * execution.workers_per_gpu or execution.workers or len(os.sched_getaffinity(0))
    return LocalEngine(workers, gpus)


def _grouped(items: Sequence[Item], todo: set[str], size: int) -> list[Item]:
    """Items joined to groups by their place in the whole list; of each group what is still to do."""
    groups = [[item for item in items[at : at + size] if item.id in todo] for at in range(0, len(items), size)]
    return [
        Item(
            id=group[0].id if len(group) == 1 else f"{group[0].id} … {group[-1].id}",
            payload=[item.payload for item in group],
            cost=sum(item.cost for item in group),
            source="\0".join(item.id for item in group),
        )
        for group in groups
        if group
    ]


def _singles(outcome: Outcome, wanted: dict[str, Item]) -> Iterator[Outcome]:
    """The outcome of each item of a group; when the group as a whole was lost, each of them was."""
    items = [wanted[key] for key in outcome.item.source.split("\0")]
    if outcome.status == "rejected":
        yield from (replace(outcome, item=item) for item in items)
        return
    for item, (kind, *content) in zip(items, outcome.row["items"], strict=True):
        if kind == "ok":
            yield Outcome(item, "ok", row=content[0], slot=outcome.slot)
        else:
            yield Outcome(item, "rejected", reason=content[0], detail=content[1], slot=outcome.slot)


def _holds(path: Path, facts: tuple[int, str]) -> bool:
    return path.is_file() and path.stat().st_size == facts[0] and file_sha256(path) == facts[1]


def _manifest_digest(run: Path) -> str | None:
    return file_sha256(run / MANIFEST) if (run / MANIFEST).exists() else None


def open_input(planned: Planned) -> Published:
    """A run that this stage reads, its manifest checked: sizes always, sha256 with VERIFY=full."""
    if not planned.done:
        raise BadInput(f"{planned.path}: not made yet; run `make {planned.stage.name}` with this config first")
    if faults := check_run(planned.path, full=os.environ.get("VERIFY") == "full"):
        more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise BadInput(
            f"{faults[0]}{more}; `make sweep RUN={planned.path}` removes the damaged run, then make it again"
        )
    return Published(planned.path, planned.hash12)
