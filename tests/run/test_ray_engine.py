"""Workers on a Ray cluster: what comes back is what processes of this machine give, whatever dies."""

import os
import signal
import threading
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
import workers

from voxmake.errors import ConfigError, Failure
from voxmake.run.config import load_config
from voxmake.run.local import LocalEngine
from voxmake.run.work import Item, Limits, WorkerSpec, target_of


@pytest.fixture(scope="module")
def engine():
    """An engine on a Ray of its own, on this machine."""
    if find_spec("ray") is None:  # asked without importing it: it reads its settings then
        pytest.skip("ray is not installed: docker/setup.py --group ray")
    from voxmake.run.cluster import RayEngine

    engine = RayEngine(None, workers=2)
    yield engine
    engine.ray.shutdown()


class Watcher:
    facts = None

    def started(self, slot, item): ...

    def idle(self): ...

    def leaving(self, facts):
        self.facts = facts


def run(engine, folder, worker, items, limits=Limits(), at_once=1):  # noqa: B008 - frozen
    folder.mkdir(exist_ok=True)
    watcher = Watcher()
    spec = WorkerSpec(target_of(worker), {}, limits, folder, folder / "run.log", at_once)
    outcomes = list(engine.run(spec, items, watcher))
    assert sorted(o.item.id for o in outcomes) == [i.id for i in items]
    return {o.item.id: (o.status, o.reason, o.detail, o.row, o.files) for o in outcomes}, watcher.facts


def items(*actions, **extra):
    return [Item(f"{n:02}", {"name": f"{n:02}", "do": action, **extra}) for n, action in enumerate(actions)]


def test_rows_files_and_faults_are_those_of_this_machine(engine, tmp_path):
    todo = [Item(f"{n:02}", {"name": str(n), "text": "x" * n}, cost=n) for n in range(20)]
    theirs, facts = run(engine, tmp_path / "ray", workers.Echo, todo)
    ours, told = run(LocalEngine(2), tmp_path / "local", workers.Echo, todo)
    assert theirs == ours and facts == told
    assert sum(1 for file in (tmp_path / "ray/audio").iterdir()) == 20

    actions = items("reject", "segfault", "ok")
    faults, _ = run(engine, tmp_path / "ray", workers.Trouble, actions)
    assert [faults[item.id][1] for item in actions] == ["silent", "decoder_crash", ""]
    assert faults["01"][2] == "killed by SIGSEGV"
    with pytest.raises(Failure, match="no such model"):
        run(engine, tmp_path / "ray", workers.BadStart, items("ok"))


def test_an_actor_that_is_killed_is_replaced(engine, tmp_path):
    """As when its node is lost; the worker process dies with it."""
    todo = [Item(f"{n:02}", {"name": str(n), "text": "x"}) for n in range(30)]

    def reap() -> None:
        while not (found := actors()):
            time.sleep(0.05)
        os.kill(found[0], signal.SIGKILL)

    killer = threading.Thread(target=reap)
    killer.start()
    outcomes, _ = run(engine, tmp_path / "ray", workers.Slow, todo)
    killer.join()
    assert {outcome[0] for outcome in outcomes.values()} == {"ok"}


def actors() -> list[int]:
    """Processes of Ray that host a worker of ours."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            if (process / "cmdline").read_text().startswith("ray::Host"):
                found.append(int(process.name))
    return found


def test_an_address_that_others_reach_is_refused(tmp_path):
    for address, right in (("127.0.0.1:6379", True), ("10.0.0.5:6379", True), ("8.8.8.8:6379", False), ("head", False)):
        config = tmp_path / "x.yaml"
        config.write_text(f"execution: {{engine: ray, ray_address: '{address}'}}\n")
        if right:
            assert load_config(config, [], {}).execution.ray_address == address
        else:
            with pytest.raises(ConfigError, match="ray_address"):
                load_config(config, [], {})
