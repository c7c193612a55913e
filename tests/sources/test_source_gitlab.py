"""A Codex project read over the GitLab API, against a server of our own on 127.0.0.1.

The server knows one project at one commit and can fail in the ways GitLab does. Every test's token is a
canary: what is raised, logged or printed is searched for it.

.venv/core/bin/python -m pytest tests/sources/test_source_gitlab.py
"""

import hashlib
import io
import json
import logging
import os
import pickle
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import soundfile
from conftest import ROOT, voice

from voxmake.errors import BadInput, ConfigError, Rejected
from voxmake.sources import Source, commit_of, fetch, files_of, read_source
from voxmake.sources.gitlab_client import connect

TOKEN = "glpat-CANARY0123456789"
COMMIT = "c0ffee" * 6 + "beef"
PROJECT = "group/bible"


def git_id(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def pointer(content, end="\n"):
    oid = hashlib.sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}{end}".encode()


class Server:
    """What one GitLab project holds, and how it misbehaves."""

    def __init__(self):
        self.files = {}  # path -> content in git
        self.lfs = {}  # path -> content in the LFS store
        self.failures = {}  # part of a path -> list of failures still to come
        self.requests = []
        self.redirect_to = None
        self.token = TOKEN

    def add_lfs(self, path, content, end="\n"):
        self.files[path] = pointer(content, end)
        self.lfs[path] = content

    def handler(server):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                """Quiet: what tests look at is `server.requests`."""

            def answer(self, status, body=b"", **headers):
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name.replace("_", "-"), str(value))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                address = urlsplit(self.path)
                path, query = unquote(address.path), {k: v[0] for k, v in parse_qs(address.query).items()}
                server.requests.append((path, query, dict(self.headers)))
                if self.headers.get("Authorization") != f"Bearer {server.token}":
                    return self.answer(401, {"message": f"401 {self.headers.get('Authorization')}"})
                for part, failures in server.failures.items():
                    if part in path and failures:
                        failure = failures.pop(0)
                        if isinstance(failure, int):
                            return self.answer(failure, {"message": "no"}, Retry_After=0)
                        return self.cut()
                base = "/api/v4/projects/"
                rest = path.removeprefix(base)
                if rest == PROJECT:
                    return self.answer(200, {"id": 7, "default_branch": "main"})
                rest = rest.removeprefix(f"{PROJECT}/repository/")
                if rest in ("commits/main", "commits/feature/x"):
                    return self.answer(200, {"id": COMMIT})
                if rest == "tree" and query["ref"] == COMMIT:
                    return self.tree(query)
                if rest.startswith("files/") and rest.endswith("/raw") and query["ref"] == COMMIT:
                    return self.file(rest[6:-4], query)
                return self.answer(404, {"message": "404 Not Found"})

            def cut(self):
                self.send_response(200)
                self.send_header("Content-Length", "1000000")
                self.end_headers()
                self.wfile.write(b"x" * 1000)
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

            def tree(self, query):
                names = sorted(name for name in server.files if name.startswith(query["path"] + "/"))
                if not names:
                    return self.answer(404, {"message": "404 Tree Not Found"})
                entries = [
                    {"id": git_id(server.files[name]), "type": "blob", "path": name, "mode": "100644"} for name in names
                ]
                page, size = int(query.get("page_token", "0")), 2  # small pages: several requests
                headers = {}
                if page + size < len(entries):
                    # another host on purpose, as behind a wrongly configured proxy: it must not be asked
                    next_url = f"http://elsewhere.invalid{self.path.split('&page_token')[0]}&page_token={page + size}"
                    headers["Link"] = f'<{next_url}>; rel="next"'
                return self.answer(200, entries[page : page + size], **headers)

            def file(self, name, query):
                if query.get("lfs") and name in server.lfs:
                    if server.redirect_to:
                        return self.answer(302, Location=f"{server.redirect_to}/{name}")
                    return self.answer(200, server.lfs[name])
                if name in server.files:
                    return self.answer(200, server.files[name])
                return self.answer(404, {"message": "404 File Not Found"})

        return Handler


def serve(handler):
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return httpd


@pytest.fixture
def server(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("GITLAB_TOKEN", TOKEN)
    monkeypatch.setattr("voxmake.sources.gitlab_client.BACKOFF_S", 0.001)
    connect.cache_clear()
    server = Server()
    httpd = serve(server.handler())
    server.url = f"http://127.0.0.1:{httpd.server_port}"
    cells = [
        {
            "kind": 2,
            "value": f"<p>{text}</p>",
            "metadata": {
                "id": f"GEN 1:{i}",
                "type": "text",
                "attachments": {"a": {"type": "audio", "url": f".project/attachments/files/GEN/{i}.webm"}},
                "selectedAudioId": "a",
            },
        }
        for i, text in enumerate(["One", "Two", "Three", ""], start=1)
    ]
    server.files["files/target/GEN.codex"] = json.dumps({"cells": cells}).encode()
    server.add_lfs(".project/attachments/pointers/GEN/1.webm", b"first" * 50_000)
    server.add_lfs(".project/attachments/pointers/GEN/2.webm", b"second" * 100, end="")
    server.files[".project/attachments/files/GEN/3.webm"] = b"not in LFS"
    server.files[".project/attachments/files/GEN/4.webm"] = b"no text"
    server.files[".project/attachments/files/GEN/orphan.webm"] = b"orphan"
    yield server
    httpd.shutdown()
    httpd.server_close()
    assert TOKEN not in caplog.text
    assert "CANARY" not in caplog.text


def source(server, **fields):
    return Source(format="gitlab", url=server.url, project=PROJECT, **fields)


def recordings(server, tmp_path, **fields):
    return read_source(source(server, **fields), tmp_path).recordings


def test_listing_and_download(server, tmp_path):
    listing = read_source(source(server), tmp_path)
    assert [(r.id, r.transcription, r.where) for r in listing.recordings] == [
        ("GEN 1:1", "One", "files/target/GEN.codex:1"),
        ("GEN 1:2", "Two", "files/target/GEN.codex:2"),
        ("GEN 1:3", "Three", "files/target/GEN.codex:3"),
    ]
    assert [(r.id, r.reason) for r in listing.rejected] == [("GEN 1:4", "empty_text")]
    assert listing.unlisted == [".project/attachments/files/GEN/orphan.webm"]
    assert files_of(source(server), tmp_path) == []
    contents = []
    for recording in listing.recordings:
        assert TOKEN.encode() not in pickle.dumps(recording)
        sha256, size_bytes = fetch(pickle.loads(pickle.dumps(recording)), tmp_path / "out")
        contents.append((tmp_path / "out").read_bytes())
        assert (sha256, size_bytes) == (hashlib.sha256(contents[-1]).hexdigest(), len(contents[-1]))
    assert contents == [b"first" * 50_000, b"second" * 100, b"not in LFS"]


def test_a_branch_is_resolved_once_and_a_commit_never(server, tmp_path):
    assert commit_of(source(server, revision="feature/x"), tmp_path) == COMMIT
    assert commit_of(source(server), tmp_path) == COMMIT
    asked = len(server.requests)
    assert commit_of(source(server, revision=COMMIT), tmp_path) == COMMIT
    assert len(server.requests) == asked
    server.requests.clear()
    recordings(server, tmp_path, revision="main")
    assert len([path for path, _, _ in server.requests if "/commits/" in path]) == 1
    assert {query["ref"] for _, query, _ in server.requests if "ref" in query} == {COMMIT}


def test_token_from_a_file(server, tmp_path, monkeypatch):
    monkeypatch.delenv("GITLAB_TOKEN")
    (tmp_path / "token").write_text(TOKEN + "\n")
    assert len(recordings(server, tmp_path, token_file="token")) == 3
    for content, message in ((TOKEN + " x\n" + TOKEN, "odd characters"), (None, "can't be read")):
        name = f"token-{message[:3]}"
        if content:
            (tmp_path / name).write_text(content)
        with pytest.raises(ConfigError, match=message) as caught:
            recordings(server, tmp_path, token_file=name)
        assert "CANARY" not in str(caught.value)


def test_a_refused_token_stops_the_run(server, tmp_path):
    [recording, *_] = recordings(server, tmp_path)
    server.token = "another"
    with pytest.raises(ConfigError, match="GITLAB_TOKEN") as caught:
        recordings(server, tmp_path)
    assert PROJECT in str(caught.value)
    assert "CANARY" not in repr(caught.value)
    with pytest.raises(ConfigError, match="GITLAB_TOKEN") as caught:
        fetch(recording, tmp_path / "out")
    assert "CANARY" not in repr(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_names_project_and_remedy(server, tmp_path):
    with pytest.raises(ConfigError, match=f"{PROJECT}.*revision nowhere.*`revision:`"):
        recordings(server, tmp_path, revision="nowhere")
    with pytest.raises(BadInput, match=r"no \*\.codex under sub/files/target"):
        recordings(server, tmp_path, folder="sub")
    wrong = Source(format="gitlab", url=server.url, project="group/other", revision="main")
    with pytest.raises(ConfigError, match="group/other"):
        read_source(wrong, tmp_path)


@pytest.mark.parametrize("failures", [[429], [503, 502], [500, 429, 503], ["cut"], ["cut", 429, "cut"]])
def test_passing_failures_are_outlived(failures, server, tmp_path):
    [recording, *_] = recordings(server, tmp_path)
    server.failures["1.webm"] = list(failures)
    fetch(recording, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"first" * 50_000


def test_the_tree_outlives_a_busy_server(server, tmp_path):
    server.failures["/tree"] = [429, 503]
    assert len(recordings(server, tmp_path)) == 3


@pytest.mark.parametrize(
    ("failures", "reason"),
    [(["cut"] * 20, "download_failed"), ([503] * 20, "download_failed"), ([404], "missing_file")],
)
def test_lasting_failures_reject_the_item(failures, reason, server, tmp_path):
    [recording, *_] = recordings(server, tmp_path)
    server.failures["1.webm"] = failures
    with pytest.raises(Rejected) as caught:
        fetch(recording, tmp_path / "out")
    assert caught.value.reason == reason
    assert len(failures) >= 12 or reason == "missing_file"  # bounded
    assert not (tmp_path / "out").exists()


def test_other_bytes_than_the_commits_are_not_accepted(server, tmp_path):
    [first, _, third] = recordings(server, tmp_path)
    server.lfs[".project/attachments/pointers/GEN/1.webm"] = b"swapped"
    server.files[".project/attachments/files/GEN/3.webm"] = b"swapped"
    for recording in (first, third):
        with pytest.raises(Rejected, match="bytes") as caught:
            fetch(recording, tmp_path / "out")
        assert caught.value.reason == "download_failed"


def test_an_lfs_object_the_server_lacks(server, tmp_path):
    [recording, *_] = recordings(server, tmp_path)
    del server.lfs[".project/attachments/pointers/GEN/1.webm"]
    with pytest.raises(Rejected) as caught:
        fetch(recording, tmp_path / "out")
    assert caught.value.reason == "lfs_pointer"


def test_an_object_store_elsewhere_never_sees_the_token(server, tmp_path):
    seen = []

    class Store(BaseHTTPRequestHandler):
        def log_message(self, *_):
            """Quiet."""

        def do_GET(self):
            seen.append(dict(self.headers))
            content = server.lfs[self.path[1:]]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    store = serve(Store)
    server.redirect_to = f"http://127.0.0.1:{store.server_port}"
    [recording, *_] = recordings(server, tmp_path)
    fetch(recording, tmp_path / "out")
    store.shutdown()
    store.server_close()
    assert (tmp_path / "out").read_bytes() == b"first" * 50_000
    assert seen
    assert TOKEN not in json.dumps(seen)


def test_collect_waits_for_what_the_server_does_not_give(server, tmp_path, monkeypatch):
    """A download that fails is no verdict on the recording: nothing is published until all are there."""
    wav = io.BytesIO()
    soundfile.write(wav, voice(1.0), 16000, format="WAV", subtype="PCM_16")
    names = [name for name in server.files if name.endswith(("/1.webm", "/2.webm", "/3.webm"))]
    for name in names:
        server.add_lfs(name, wav.getvalue() + name.encode())
    server.lfs[names[0]] = b"swapped on the way"
    config = tmp_path / "x.yaml"
    config.write_text(
        f"extends: {ROOT / 'configs/base.yaml'}\nproject: test\n"
        f"collect: {{sources: [{{format: gitlab, url: '{server.url}', project: {PROJECT}}}]}}\n"
        "execution: {workers: 2, progress: plain, max_rejected_ratio: 0.5}\n"
    )

    def collect():
        command = [sys.executable, ROOT / "scripts/collect.py", "--config", config]
        environment = os.environ | {"VOXMAKE_DATA": str(tmp_path / "data")}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    failed = collect()
    assert failed.returncode == 70
    assert "1 of 4 items could not be downloaded" in failed.stderr.splitlines()[-1]
    assert not list(tmp_path.glob("data/runs/collect/*/MANIFEST.sha256"))

    server.add_lfs(names[0], wav.getvalue() + names[0].encode())
    server.requests.clear()
    done = collect()
    assert done.returncode == 0
    assert "2 of 3 recordings are done already" in done.stderr
    fetched = [path for path, query, _ in server.requests if query.get("lfs")]
    assert all(names[0].rpartition("/")[2] in path for path in fetched)
    [manifest] = tmp_path.glob("data/runs/collect/*/MANIFEST.sha256")
    written = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert len(list((manifest.parent / "audio").iterdir())) == 3
    assert not any(TOKEN.encode() in path.read_bytes() for path in written)
    assert TOKEN not in failed.stderr + done.stderr


def test_no_server(tmp_path, monkeypatch):
    monkeypatch.setattr("voxmake.sources.gitlab_client.BACKOFF_S", 0.001)
    monkeypatch.setenv("GITLAB_TOKEN", TOKEN)
    connect.cache_clear()
    closed = serve(BaseHTTPRequestHandler)
    url = f"http://127.0.0.1:{closed.server_port}"
    closed.shutdown()
    closed.server_close()
    with pytest.raises(BadInput, match="network") as caught:
        commit_of(Source(format="gitlab", url=url, project=PROJECT, revision="main"), tmp_path)
    assert "CANARY" not in repr(caught.value)
