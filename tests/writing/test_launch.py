"""A server that a stage starts: waited for, and ended whatever becomes of the stage."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from conftest import ROOT

from voxmake.errors import Failure
from voxmake.writing.launch import launched

SERVER = Path(__file__).with_name("fake_server.py")
LOG = logging.getLogger("test")


def spec(*command, limit_s=20.0):
    return SimpleNamespace(launch=list(command), model="m", engine="openai", start_timeout_s=limit_s)


def gone(pid):
    """Ended within ten seconds; a process that nobody has waited for yet has ended too."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_it_is_waited_for_and_ended_with_its_children(tmp_path):
    command = (sys.executable, str(SERVER), "{port}", str(tmp_path / "pids"))
    with launched(spec(*command), tmp_path / "log", LOG) as url:
        body = {"messages": [{"content": ""}, {"content": "artist: A\ntitle: B\n"}], "seed": 1}
        assert "A made B" in requests.post(f"{url}/chat/completions", json=body, timeout=10).text
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_a_killed_stage_leaves_no_server(tmp_path):
    code = (
        "import logging, sys, time; from types import SimpleNamespace; from pathlib import Path\n"
        "from voxmake.writing.launch import launched\n"
        f"spec = SimpleNamespace(launch=[sys.executable, {str(SERVER)!r}, '{{port}}', {str(tmp_path / 'pids')!r}], "
        "model='m', engine='openai', start_timeout_s=20)\n"
        f"with launched(spec, Path({str(tmp_path / 'log')!r}), logging.getLogger()): print('up', flush=True); time.sleep(60)\n"
    )
    stage = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
    )  # fmt: skip
    assert stage.stdout.readline() == "up\n"
    stage.send_signal(signal.SIGKILL)
    stage.communicate()
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


@pytest.mark.parametrize(
    ("command", "limit_s", "told"),
    [
        (("no-such-server", "{port}"), 20, "exit code 127 before it was ready"),
        ((sys.executable, "-c", "raise SystemExit(3)", "{port}"), 20, "exit code 3 before it was ready"),
        ((sys.executable, "-c", "import time; time.sleep(60)", "{port}"), 1, "not ready within 1 s"),
    ],
)
def test_what_does_not_come_up_is_one_line(tmp_path, command, limit_s, told):
    with pytest.raises(Failure, match=told), launched(spec(*command, limit_s=limit_s), tmp_path / "log", LOG):
        pass
