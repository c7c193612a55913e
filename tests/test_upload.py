"""upload: whole runs arrive, at a folder, an S3 server and an SSH server; cut, killed and repeated."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests
from conftest import ROOT

import upload
from voxmake.run.store import MANIFEST, WorkDir

FILES = {f"audio/{number:03}.wav": bytes([number]) * (1000 + number) for number in range(24)} | {"metadata.csv": b"x\n"}
NAMES = {*FILES, "run.json", "run.log", "rejected.csv", MANIFEST} - {"rejected.csv"}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A published run."""
    monkeypatch.setenv("VOXMAKE_DATA", str(tmp_path / "data"))
    work = WorkDir(tmp_path / "data" / "runs" / "segment" / "0123456789ab")
    for name, content in FILES.items():
        (work.path / name).parent.mkdir(parents=True, exist_ok=True)
        (work.path / name).write_bytes(content)
    (work.path / "run.json").write_text(json.dumps({"identity": {}}))
    (work.path / "run.log").write_text("made by a test\n")
    work.publish(FILES, {}, "made by a test")
    return work.final


def sent(run: Path, to: str, *flags: str) -> int:
    return upload.main(["--run", str(run), "--to", to, *flags])


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_gets_the_run_as_it_is_and_once(made, tmp_path, capsys):
    there = tmp_path / "disk" / "segment" / made.name
    assert sent(made, str(tmp_path / "disk"), "--check") == 0
    assert files_below(there) == files_below(made) and set(files_below(there)) == NAMES
    before = {path: path.stat().st_mtime_ns for path in there.rglob("*")}
    capsys.readouterr()
    assert sent(made, str(tmp_path / "disk")) == 0
    assert "there already" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in there.rglob("*")}


def test_what_is_damaged_or_another_is_told(made, tmp_path, capsys):
    there = tmp_path / "disk" / "segment" / made.name
    assert sent(made, str(tmp_path / "disk")) == 0
    (there / "audio/003.wav").chmod(0o644)
    (there / "audio/003.wav").write_bytes(b"\0" * len(FILES["audio/003.wav"]))
    assert sent(made, str(tmp_path / "disk"), "--check") == 65
    assert "audio/003.wav: other content" in capsys.readouterr().err
    (there / MANIFEST).chmod(0o644)
    (there / MANIFEST).write_text("another\n")
    assert sent(made, str(tmp_path / "disk")) == 73


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--run", "segment/ffffffffffff", "--to", "x"], 2, "no such run"),
        (["--run", "RUN", "--to", "nonsense://x"], 2, "nonsense"),
        (["--run", "RUN", "--to", "FILE/below"], 70, "FILE"),
    ],
)
def test_wrong_use_is_one_line(made, tmp_path, flags, code, said, capsys, monkeypatch):
    monkeypatch.setattr(upload, "_FIRST_WAIT_S", 0.001)
    (tmp_path / "FILE").write_text("in the way")
    found = [flag.replace("RUN", str(made)).replace("FILE", str(tmp_path / "FILE")) for flag in flags]
    assert upload.main(found) == code
    told = capsys.readouterr().err
    assert said in told and len(told.strip().splitlines()) == 1


# ---------------------------------------------------------------------------- S3


class Cut:
    """A proxy on loopback that closes every n-th connection soon, or stalls after so many bytes."""

    def __init__(self, port: int):
        self.port, self.connections, self.cuts, self.cut_every = port, 0, 0, 0
        self.sent_bytes, self.stall_at_bytes, self.go_on = 0, None, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                ours, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            theirs = socket.create_connection(("127.0.0.1", self.port))
            cut = self.cut_every and self.connections % self.cut_every == 0
            threading.Thread(target=self._pump, args=(ours, theirs, 700 if cut else None), daemon=True).start()
            threading.Thread(target=self._pump, args=(theirs, ours, None), daemon=True).start()

    def _pump(self, source, sink, limit):
        passed = 0
        try:
            while data := source.recv(65536):
                passed += len(data)
                if limit is not None and passed > limit:
                    self.cuts += 1
                    break
                self.sent_bytes += len(data)
                if self.stall_at_bytes is not None and self.sent_bytes > self.stall_at_bytes:
                    self.go_on.wait(60)
                sink.sendall(data)
        except OSError:
            pass  # the other side went first
        for end in (source, sink):
            end.close()


@pytest.fixture
def s3(tmp_path, monkeypatch):
    """A real S3 server on loopback with one bucket, behind a proxy that can cut."""
    pytest.importorskip("s3fs", reason="needs docker/setup.py --group upload")
    server_module = pytest.importorskip("moto.server", reason="needs docker/setup.py --group moto")
    import boto3
    import s3fs

    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    requests.post(f"http://127.0.0.1:{port}/moto-api/reset", timeout=10)  # its buckets outlive the server
    direct = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
    direct.create_bucket(Bucket="voices")
    proxy = Cut(port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setattr(upload, "_FIRST_WAIT_S", 0.01)
    s3fs.S3FileSystem.clear_instance_cache()
    proxy.direct = direct
    yield proxy
    s3fs.S3FileSystem.clear_instance_cache()
    proxy.listener.close()
    server.stop()


def objects(proxy) -> dict[str, bytes]:
    listed = proxy.direct.list_objects_v2(Bucket="voices").get("Contents", [])
    return {
        entry["Key"].removeprefix("sets/segment/0123456789ab/"): proxy.direct.get_object(
            Bucket="voices", Key=entry["Key"]
        )["Body"].read()
        for entry in listed
    }


def test_s3_gets_the_run_though_connections_are_cut(made, s3):
    s3.cut_every = 3
    assert sent(made, "s3://voices/sets", "--check") == 0
    assert objects(s3) == files_below(made)
    assert s3.cuts > 0


def test_a_missing_bucket_is_told_at_once(made, s3, capsys):
    assert sent(made, "s3://nobody/sets") == 65
    assert "check the target's name" in capsys.readouterr().err


def test_killed_it_goes_on_and_sends_nothing_of_a_receipt_again(made, s3):
    command = [
        sys.executable,
        ROOT / "scripts" / "upload.py",
        "--run",
        made,
        "--to",
        "s3://voices/sets",
        "--batch",
        "4",
    ]
    s3.stall_at_bytes = 30_000  # the first batches are through, with their receipts
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in child.stderr:
        if "files," in line:  # the first batch and its receipt are there
            break
    child.kill()
    child.wait()
    child.stderr.close()
    s3.stall_at_bytes = None
    s3.go_on.set()
    early = {entry["Key"]: entry["LastModified"] for entry in s3.direct.list_objects_v2(Bucket="voices")["Contents"]}
    receipts = [key for key in early if f"/{upload.RECEIPTS}/" in key]
    assert receipts and not any(key.endswith(MANIFEST) for key in early)
    named = "".join(s3.direct.get_object(Bucket="voices", Key=key)["Body"].read().decode() for key in receipts)
    time.sleep(1.1)  # S3's times are whole seconds
    assert sent(made, "s3://voices/sets", "--check") == 0
    assert objects(s3) == files_below(made)
    late = {entry["Key"]: entry["LastModified"] for entry in s3.direct.list_objects_v2(Bucket="voices")["Contents"]}
    kept = [key for key in early if key in late and early[key] == late[key]]
    assert {key.partition("0123456789ab/")[2] for key in kept} >= {line.split(" ", 2)[2] for line in named.splitlines()}


# ---------------------------------------------------------------------------- SSH


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """An SSH server on loopback with SFTP, a key that it takes, and a home whose known_hosts has it."""
    asyncssh = pytest.importorskip("asyncssh", reason="needs docker/setup.py --group upload")
    pytest.importorskip("sshfs", reason="needs docker/setup.py --group upload")
    host_key, user_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    user_key.write_private_key(home / ".ssh" / "id_ed25519")
    (tmp_path / "authorized").write_bytes(user_key.export_public_key())
    loop, started = asyncio.new_event_loop(), threading.Event()
    found = {}

    async def serve():
        server = found["server"] = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[host_key],
            authorized_client_keys=str(tmp_path / "authorized"),
            sftp_factory=True,
        )
        found["port"] = server.get_port()
        started.set()

    def work():
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert started.wait(10)
    public = host_key.export_public_key().decode().strip()
    known = home / ".ssh" / "known_hosts"
    known.write_text(f"[127.0.0.1]:{found['port']} {public}\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(upload, "_FIRST_WAIT_S", 0.01)
    yield f"ssh://me@127.0.0.1:{found['port']}", known

    async def end():
        found["server"].close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


def test_ssh_gets_the_run_and_a_stranger_nothing(made, tmp_path, ssh, capsys):
    url, known = ssh
    assert sent(made, f"{url}{tmp_path}/disk", "--check") == 0
    assert files_below(tmp_path / "disk" / "segment" / made.name) == files_below(made)
    known.write_text("")
    import sshfs

    sshfs.SSHFileSystem.clear_instance_cache()
    assert sent(made, f"{url}{tmp_path}/other") == 70
    assert not (tmp_path / "other").exists()
    assert "Host key" in capsys.readouterr().err
