"""The other end of `work.py`: one worker process. Run by the engine, never by hand."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import importlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from voxmake.errors import Failure, Rejected
from voxmake.run.provenance import source_digests, versions

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# A write that fails for one of these fails for every item: the run stops, the item is not to blame.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}


class Output:
    """Where a worker puts an item's files. Names are relative to the run's folder."""

    def __init__(self, root: Path):
        self.root = root
        self.files: dict[str, tuple[int, str]] = {}

    def write(self, name: str, data: bytes) -> None:
        """Write one result file whole; a full disk stops the run."""
        path = self.path(name)
        path.write_bytes(data)
        self.files[name] = (len(data), hashlib.sha256(data).hexdigest())

    def path(self, name: str) -> Path:
        """A path to write to bit by bit; `add` it when it is complete."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def add(self, name: str, size_bytes: int, sha256: str) -> None:
        """Declare a file written through `path`, by what was meant to be written."""
        self.files[name] = (size_bytes, sha256)


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    pipe, parent = Connection(int(sys.argv[1])), int(sys.argv[2])
    # Die with the parent, even if that is killed: nobody would journal what we make.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return 1
    try:
        spec = pipe.recv()
        module, _, name = spec.target.partition(":")
        worker = getattr(importlib.import_module(module), name)(**spec.args)
    except EOFError:
        return 1
    except Exception as error:  # whatever a model's loading can raise: one line for the user, the rest to run.log
        traceback.print_exc()
        pipe.send(("fatal", f"worker could not start: {_one_line(error)}"))
        return 1
    if spec.limits.memory_mb is not None:
        limit = spec.limits.memory_mb << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # over a file size limit: EFBIG instead of a death
    pipe.send(("ready",))
    while True:
        try:
            payloads = pipe.recv()
        except EOFError:
            return 0
        if payloads is None:  # the last worker to leave says what it was made of
            pipe.send({"versions": versions(), "sources": source_digests()})
            return 0
        _limit_cpu(spec.limits.cpu_s and spec.limits.cpu_s * len(payloads))
        for answer in _answers(worker, payloads, spec):
            pipe.send(answer)


def _answers(worker, payloads: list, spec) -> Iterator[tuple]:
    """One answer for each payload, in order, as soon as there is one."""
    if spec.at_once == 1:
        yield _answer(worker, payloads[0], Output(spec.output))
        return
    done = 0
    outputs = [Output(spec.output) for _ in payloads]
    try:
        for result in worker.many(payloads, outputs):
            rejected = isinstance(result, Rejected)
            yield _refusal(result) if rejected else ("ok", result, outputs[done].files)
            done += 1
    except Exception:  # whose fault it is shows when the rest goes one by one
        if len(payloads) - done > 1:
            traceback.print_exc()
    for payload in payloads[done:]:
        yield _answer(lambda one, output: _first(worker.many([one], [output])), payload, Output(spec.output))


def _first(results: Iterator):
    result = next(iter(results))
    if isinstance(result, Rejected):
        raise result
    return result


def _refusal(rejection: Rejected) -> tuple:
    return "rejected", rejection.reason, rejection.detail, ""


def _answer(worker, payload, output: Output) -> tuple:
    try:
        row = worker(payload, output)
        if isinstance(row, list):  # a group of items: each has its own row or its own reason
            row = {
                "items": [
                    ("rejected", one.reason, one.detail) if isinstance(one, Rejected) else ("ok", one) for one in row
                ]
            }
    except Rejected as rejection:
        return _refusal(rejection)
    except Failure as failure:
        return "fatal", str(failure)
    except MemoryError:
        return "rejected", "memory_limit", "", ""
    except Exception as error:  # the boundary between one item and the run: logged with its traceback
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return (
                "fatal",
                f"{error.filename or output.root}: can't be written: {error.strerror}; make room, then run again",
            )
        return "rejected", "internal_error", _one_line(error), traceback.format_exc()
    return "ok", row, output.files


def _limit_cpu(limit_s: float | None) -> None:
    """Let the process use so much more CPU time; past it the kernel sends SIGXCPU."""
    if limit_s is None:
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(usage.ru_utime + usage.ru_stime + limit_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0]


if __name__ == "__main__":
    raise SystemExit(main())
