"""Worker processes on the nodes of a Ray cluster: an actor for each, which starts the same process as local.py.

Code and data lie under the same paths on every node (a shared file system, or one machine). Ray's ports stay on a
loopback or private address, its dashboard and its telemetry off.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from voxmake.errors import Failure
from voxmake.run.local import LocalWorker
from voxmake.run.stage import PROJECT_ROOT
from voxmake.run.work import Engine, Item, Worker, WorkerSpec

_GOODBYE_S = 10.0


class Host:
    """The actor: the worker process and the pipe to it are on its node, and it passes messages on."""

    def __init__(self, slot: int, spec: WorkerSpec, search_path: list[str]):
        self.worker = LocalWorker(slot, spec, os.environ.get("CUDA_VISIBLE_DEVICES", ""), search_path)

    def send(self, payloads: list) -> None:
        self.worker.send(payloads)

    def receive(self) -> tuple:
        return self.worker.receive()

    def leave(self, ask: bool) -> dict[str, dict[str, str]]:
        return self.worker.leave(ask)


class RayWorker(Worker):
    """The actor, seen from the engine. Calls of an actor run in their order, so answers come in that of the items."""

    def __init__(self, ray: Any, host: Any, slot: int):
        self.ray, self.host, self.slot, self.started_s, self.ready = ray, host, slot, 0.0, False
        self.items: list[Item] = []
        self.expected = [host.receive.remote()]  # "ready"

    def send(self, payloads: list) -> None:
        self.host.send.remote(payloads)
        self.expected = [self.host.receive.remote() for _ in payloads]

    def receive(self) -> tuple:
        try:
            return self.ray.get(self.expected.pop(0))
        except self.ray.exceptions.RayActorError:  # its node is gone, or the actor's own process
            return "died", None

    def leave(self, ask: bool) -> dict[str, dict[str, str]]:
        try:
            return self.ray.get(self.host.leave.remote(ask), timeout=_GOODBYE_S)
        except (self.ray.exceptions.RayActorError, self.ray.exceptions.GetTimeoutError):
            return {}  # it died after its last item; the results are complete
        finally:
            self.kill()

    def kill(self) -> None:
        self.ray.kill(self.host)


class RayEngine(Engine):
    """Worker processes on a Ray cluster.

    Args:
        address: host:port of a cluster that runs; None: one of its own on this machine, for as long as this process.
        workers: at most so many; None: as many as the cluster has CPUs or, with GPUs, places on them.
        workers_per_gpu: above 0: each worker gets this part of a GPU, which Ray chooses.
    """

    def __init__(self, address: str | None, workers: int | None, workers_per_gpu: int = 0):
        self.ray = _connected(address)
        kind, per = ("GPU", workers_per_gpu) if workers_per_gpu else ("CPU", 1)
        places = int(self.ray.cluster_resources().get(kind, 0)) * per
        if not places:
            raise Failure(f"execution.ray_address: the Ray cluster has no {kind}; start a node that has one")
        self.workers = min(workers or places, places)
        share = {"num_cpus": 0, "num_gpus": 1 / workers_per_gpu} if workers_per_gpu else {"num_cpus": 1}
        environment = {"env_vars": {"PYTHONPATH": str(PROJECT_ROOT / "scripts")}}
        self.host = self.ray.remote(**share, runtime_env=environment, max_restarts=0, max_task_retries=0)(Host)

    def start(self, slot: int, spec: WorkerSpec) -> Worker:
        return RayWorker(self.ray, self.host.remote(slot, spec, sys.path), slot)

    def messages(self, workers: list[Worker], timeout_s: float) -> list[Worker]:
        waiting = {worker.expected[0]: worker for worker in workers}
        speaking, _ = self.ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        if not speaking:
            speaking, _ = self.ray.wait(list(waiting), num_returns=1, timeout=timeout_s)
        return [waiting[ref] for ref in speaking]


def _connected(address: str | None) -> Any:
    """The ray package, connected.

    Raises:
        Failure: it is not installed, or no cluster answers.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None or address.startswith(("127.", "[::1]")):
        # Ray takes a loopback address for "this machine" and listens on all of them, but not under this setting.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
    except ImportError:
        raise Failure("execution.engine: ray is not installed; run `python3 docker/setup.py --group ray`") from None
    if ray.is_initialized():
        return ray
    own = {"num_cpus": len(os.sched_getaffinity(0)), "include_dashboard": False} if address is None else {}
    previous = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or "local", log_to_driver=False, configure_logging=False, **own)
    except (ConnectionError, RuntimeError) as error:
        raise Failure(f"execution.ray_address: no cluster at {address}: {str(error).splitlines()[0]}") from None
    signal.signal(signal.SIGTERM, previous)  # Ray sets one of its own
    return ray
