"""The engine: every item gets exactly one outcome, whatever its worker does."""

from pathlib import Path

import pytest
import workers

from voxmake.errors import Failure
from voxmake.run.local import LocalEngine
from voxmake.run.work import Engine, Item, Limits, WorkerSpec, target_of


class Watcher:
    def __init__(self):
        self.order, self.facts = [], {}

    def started(self, slot, item):
        self.order.append(item.id)

    def idle(self):
        pass

    def leaving(self, facts):
        self.facts = facts


def run(tmp_path: Path, worker: type, items, workers_n=2, limits=Limits(), args=None):  # noqa: B008 - frozen
    spec = WorkerSpec(target_of(worker), args or {}, limits, tmp_path, tmp_path / "run.log")
    watcher = Watcher()
    outcomes = list(LocalEngine(workers_n).run(spec, items, watcher))
    assert sorted(o.item.id for o in outcomes) == sorted(i.id for i in items)
    return {o.item.id: o for o in outcomes}, watcher


def items(*actions, **extra):
    return [Item(f"{n:02}", {"name": f"{n:02}", "do": action, **extra}) for n, action in enumerate(actions)]


def test_rows_and_files_come_back(tmp_path):
    todo = [Item(str(n), {"name": str(n), "text": "x" * n}) for n in range(20)]
    outcomes, _ = run(tmp_path, workers.Echo, todo)
    for n in range(20):
        assert outcomes[str(n)].row == {"name": str(n), "bytes": n}
        (name, (size_bytes, _)), *_ = outcomes[str(n)].files.items()
        assert (tmp_path / name).stat().st_size == size_bytes == n


def test_the_longest_item_starts_first(tmp_path):
    todo = [Item(str(n), {"name": str(n), "text": ""}, cost=cost) for n, cost in enumerate([1, 5, 3, 4])]
    _, watcher = run(tmp_path, workers.Echo, todo, workers_n=1)
    assert watcher.order == ["1", "3", "2", "0"]


@pytest.mark.parametrize(
    ("action", "reason", "detail"),
    [
        ("reject", "silent", "no sound"),
        ("raise", "internal_error", "KeyError: 'a bug'"),
        ("segfault", "decoder_crash", "killed by SIGSEGV"),
        ("spin", "timeout", "more than 1 s of CPU time|hung for 4 s"),  # on a busy machine the clock is first
        ("sleep", "timeout", "hung for 4 s"),
        ("memory", "memory_limit", ""),
    ],
)
def test_one_bad_item_harms_no_other(tmp_path, action, reason, detail):
    limits = Limits(cpu_s=1, memory_mb=2048)
    outcomes, _ = run(tmp_path, workers.Trouble, items("ok", action, "ok", "ok"), limits=limits)
    assert outcomes["01"].reason == reason and outcomes["01"].detail in detail.split("|")
    assert [outcomes[key].status for key in ("00", "02", "03")] == ["ok"] * 3
    assert ("KeyError" in outcomes["01"].trace) == (action == "raise")


def test_a_killed_worker_is_replaced_and_its_item_done_again(tmp_path):
    todo = items("die once", "ok", "ok", marker=str(tmp_path / "died"))
    outcomes, _ = run(tmp_path, workers.Trouble, todo, workers_n=1)
    assert [outcome.status for outcome in outcomes.values()] == ["ok"] * 3
    assert (tmp_path / "died").exists()


def test_a_full_disk_stops_the_run(tmp_path):
    with pytest.raises(Failure, match=r"can't be written: File too large; make room"):
        run(tmp_path, workers.Trouble, items("no room", "ok"), workers_n=1)


def test_a_worker_that_cannot_start_stops_the_run(tmp_path):
    with pytest.raises(Failure, match="worker could not start: RuntimeError: no such model"):
        run(tmp_path, workers.BadStart, items("ok"))
    assert "Traceback" in (tmp_path / "run.log").read_text()
    with pytest.raises(Failure, match=r"3 workers died at their start \(exit code 3\)"):
        run(tmp_path, workers.DeadStart, items("ok"), workers_n=1)


def test_the_last_worker_says_what_it_was_made_of(tmp_path):
    _, watcher = run(tmp_path, workers.Echo, [Item("1", {"name": "1", "text": ""})])
    assert "scripts/voxmake/run/worker.py" in watcher.facts["sources"]
    assert "python" in watcher.facts["versions"]


class Late(Engine):
    """Slot 0 does all the work; slot 1 says that it is ready in the round in which nothing is left for it."""

    workers = 2

    class Worker:
        def __init__(self, slot: int):
            self.slot, self.items, self.started_s, self.ready, self.gone = slot, [], 0.0, False, False

        def send(self, payloads):
            pass

        def receive(self):
            assert not self.gone
            return ("ok", {}, {}) if self.ready else ("ready",)

        def leave(self, ask):
            self.gone = True
            return {}

        def kill(self):
            self.gone = True

    def start(self, slot, spec):
        return self.Worker(slot)

    def messages(self, workers, timeout_s):
        nearly_done = workers[0].items and workers[0].items[0].id == "01"
        return workers if nearly_done else workers[:1]


def test_a_worker_that_is_ready_as_the_last_item_ends(tmp_path):
    spec = WorkerSpec("workers:Echo", {}, Limits(), tmp_path, tmp_path / "run.log")
    outcomes = Late().run(spec, items("echo", "echo"), Watcher())
    assert sorted(outcome.item.id for outcome in outcomes) == ["00", "01"]
