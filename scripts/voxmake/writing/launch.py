"""A model server as a child of the stage: started, waited for, and ended with all that it started.

The end of a process is the only unloading of a model that is certain (vLLM #1908, llama-cpp-python #434). A
keeper stands between: it leads the server's process group, and kills it when the stage ends in any way, for
then its pipe is closed; a SIGKILL of the stage leaves no server behind on the GPU.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from voxmake.errors import Failure

_POLL_S = 0.2
_GRACE_S = 10.0  # between asking a server to end and killing it


@contextmanager
def launched(spec: Any, output: Path, log: logging.Logger) -> Iterator[str]:
    """Run the section's `launch` command while the block lasts.

    Args:
        spec: keys of `TextModel`: launch, model, start_timeout_s.
        output: file that the server's output is appended to.

    Yields:
        the base URL of its API.

    Raises:
        Failure: the program is not there, ended, or was not healthy in time.
    """
    from voxmake.writing.engine import model_path

    port = _free_port()
    model = model_path(spec) or spec.model
    command = [word.replace("{model}", model).replace("{port}", str(port)) for word in spec.launch]
    log.info("starting %s", Path(command[0]).name)
    reading, writing = os.pipe()
    with output.open("ab") as stream:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "voxmake.writing.launch", str(reading), *command],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            pass_fds=[reading],
            # Its own session: Ctrl-C reaches the stage, which then ends the server in order.
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
    os.close(reading)
    try:
        _wait(keeper, port, spec.start_timeout_s, command[0], output)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.close(writing)
        with suppress(subprocess.TimeoutExpired):
            keeper.wait(_GRACE_S + 5)
        with suppress(ProcessLookupError):
            os.killpg(keeper.pid, signal.SIGKILL)
        keeper.wait()
        log.info("%s has ended", Path(command[0]).name)


def _wait(keeper: subprocess.Popen, port: int, limit_s: float, name: str, output: Path) -> None:
    """Until the server says that its model is loaded: /health (llama.cpp, vLLM), or /v1/models where there is none."""
    import requests

    session = requests.Session()
    session.trust_env = False
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        if keeper.poll() is not None:
            raise Failure(
                f"{name} ended with exit code {keeper.returncode} before it was ready; its output is in {output}"
            )
        with suppress(requests.RequestException):
            status = session.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code
            if status == 404:
                status = session.get(f"http://127.0.0.1:{port}/v1/models", timeout=5).status_code
            if status == 200:
                return
        time.sleep(_POLL_S)
    raise Failure(f"{name} was not ready within {limit_s:g} s (start_timeout_s); its output is in {output}")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def keep(reading: int, command: list[str]) -> int:
    """The keeper: run the command until it ends or the pipe is closed, then end its whole group."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is sent to the group, and the keeper is in it
    try:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_default_signals)
    except OSError as error:
        print(f"{command[0]}: can't be started: {error.strerror}", file=sys.stderr)
        return 127
    while server.poll() is None:
        ready, _, _ = select.select([reading], [], [], _POLL_S)
        if ready:  # nothing is ever written: it can only be the end
            break
    ended = server.poll()
    os.killpg(0, signal.SIGTERM)  # the server, or what it left behind
    if ended is None:
        with suppress(subprocess.TimeoutExpired):
            server.wait(_GRACE_S)
        os.killpg(0, signal.SIGKILL)  # this process as well
    return ended if ended >= 0 else 128 - ended


def _default_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


if __name__ == "__main__":
    raise SystemExit(keep(int(sys.argv[1]), sys.argv[2:]))
