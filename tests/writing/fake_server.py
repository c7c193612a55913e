"""A chat completions server that answers, and fails, as real ones do. Used in the test's own process and as a child.

python fake_server.py PORT [FILE]     # FILE: its process id and a grandchild's are written there
"""

import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def completion(text, reason="stop"):
    return {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": reason}]}


class Fake(ThreadingHTTPServer):
    """`behaviour(body, number)` gives what answers the number-th request: a text, or ("kind", …)."""

    daemon_threads = True

    def __init__(self, behaviour, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.behaviour, self.bodies, self.headers, self.lock = behaviour, [], [], threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        ready = time.monotonic() >= getattr(self.server, "ready_at_s", 0)
        self._send(200 if ready else 503, b"{}")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.headers.append(dict(self.headers))
            number = len(self.server.bodies)
        answer = self.server.behaviour(body, number)
        if isinstance(answer, str):
            answer = ("json", completion(answer))
        kind, *rest = answer
        if kind == "json":
            self._send(200, json.dumps(rest[0]).encode())
        elif kind == "raw":
            self._send(200, rest[0])
        elif kind == "status":
            self._send(rest[0], b'{"error": {"message": "told so"}}', *rest[1:])
        elif kind == "hang":
            time.sleep(rest[0])
            self.close_connection = True
        elif kind == "drip":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(100):
                try:
                    self.wfile.write(b" ")
                    self.wfile.flush()
                except OSError:
                    break
                time.sleep(0.05)
            self.close_connection = True
        elif kind == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            self.close_connection = True

    def _send(self, status, data, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def writer(body, number):
    """A writer that does what the prompt says: names, and a number of its own for each seed."""
    prompt = body["messages"][1]["content"]

    def fact(name):
        return prompt.partition(f"{name}: ")[2].partition("\n")[0]

    words = [
        "amber",
        "birch",
        "cedar",
        "dune",
        "ember",
        "fern",
        "grove",
        "heath",
        "iris",
        "jade",
        "kelp",
        "lark",
        "moss",
        "north",
        "oak",
        "pine",
        "quill",
        "reed",
        "sage",
        "thorn",
    ]
    seed = body["seed"]
    some = " ".join(words[seed // 20**k % 20] for k in range(6))
    return f"{some.capitalize()}, friend. {fact('artist')} made {fact('title')}, and it says {some}."


if __name__ == "__main__":
    server = Fake(writer, int(sys.argv[1]))
    server.ready_at_s = time.monotonic() + 0.5  # a model takes its time
    if len(sys.argv) > 2:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(sys.argv[2]).write_text(f"{__import__('os').getpid()} {child.pid}")
    server.serve_forever()
