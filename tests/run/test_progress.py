"""The live display, on a terminal of the test's own."""

import os
import pty
import re
import subprocess
import sys

from conftest import ROOT


def test_log_lines_stand_above_the_live_display(project):
    for name in ("a.wav", "b.wav", "c.wav"):
        (project / "recordings/audio" / name).write_bytes(b"no audio")
    with (project / "recordings/metadata.csv").open("a") as stream:
        stream.write("".join(f"audio/{name}.wav,Text.\n" for name in "abc"))
    flags = ["--set", "execution.progress=auto", "--set", "execution.max_rejected_ratio=0.5"]
    command = [sys.executable, ROOT / "scripts/collect.py", "--config", project / "x.yaml", *flags]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stderr=theirs, env=os.environ | {"TERM": "xterm", "COLUMNS": "200"}) as process:
        os.close(theirs)
        shown = b""
        try:
            while block := os.read(ours, 4096):
                shown += block
        except OSError:  # Linux's way to say that the other end is closed
            os.close(ours)
    assert process.returncode == 0
    lines = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).replace(b"\r", b"\n").decode().splitlines()
    told = [line for line in lines if "rejected: not_audio" in line]
    assert len(told) == 3
    assert all(re.match(r"\d{4}-\d\d-\d\dT\S+ WARNING collect: ", line) for line in told)
