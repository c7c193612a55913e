"""Workers that misbehave, for tests of the engine. They run in processes of their own."""

import os
import resource
import signal
import time
from pathlib import Path

from voxmake.errors import Rejected


class Echo:
    """Writes one file for each item and answers with its size."""

    def __init__(self, pause_s: float = 0.0):
        self.pause_s = pause_s

    def __call__(self, payload, output):
        time.sleep(self.pause_s)
        data = payload["text"].encode()
        output.write(f"audio/{payload['name']}.txt", data)
        return {"name": payload["name"], "bytes": len(data)}


class Slow(Echo):
    """Takes a while for each item."""

    def __init__(self):
        super().__init__(0.2)


class Trouble:
    """Does what the payload says."""

    def __call__(self, payload, output):
        match payload.get("do"):
            case "reject":
                raise Rejected("silent", "no sound")
            case "raise":
                raise KeyError("a bug")
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "die once":
                marker = Path(payload["marker"])
                if not marker.exists():
                    marker.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            case "spin":
                while True:
                    pass
            case "sleep":
                time.sleep(3600)
            case "memory":
                return {"bytes": len(bytearray(8 << 30))}
            case "no room":
                resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        output.write(f"{payload['name']}.txt", b"0123456789 and more")
        return {"name": payload["name"], "pid": os.getpid()}


class BadStart:
    def __init__(self):
        raise RuntimeError("no such model")


class DeadStart:
    def __init__(self):
        os._exit(3)
