"""TextEngine over any server that speaks OpenAI's chat completions: vLLM, llama.cpp, Ollama, a hosted one.

Everything that a server or a network does wrong becomes an `EngineError` after some tries: no answer in time, a cut
connection, 429 and 5xx, a body that is no JSON, no choices, an answer cut short. What fails every request
(a wrong key, an unknown model) stops the run with one line.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests

from voxmake.errors import Failure
from voxmake.writing.engine import EngineError, Text, TextRequest, finished

_CONNECT_S = 10.0
_MAX_BODY_BYTES = 1 << 20
_FIRST_PAUSE_S = 0.5  # doubled after each try
_FATAL = {
    401: "the key in {variable} is missing or wrong",
    403: "the key in {variable} may not do this",
    404: "no such address or model",
}
_SEED_STEP = 7919  # another try of an answer that can't be used needs another draw


class _Again(Exception):
    """This try gave nothing, the next one may; `wait_s` is what the server asked for."""

    def __init__(self, detail: str, kind: str = "engine_failed", wait_s: float | None = None):
        super().__init__(detail)
        self.detail, self.kind, self.wait_s = detail, kind, wait_s


class OpenAI:
    """Asks one server; a batch is sent at once, and the server makes of that what it can.

    Args:
        base_url: such as http://127.0.0.1:8000/v1.
        spec: keys of `TextModel`: model, temperature, top_p, max_tokens, tries, timeout_s, max_wait_s,
            api_key_variable, batch_size.
    """

    def __init__(self, base_url: str, spec: dict):
        self.url = f"{base_url.rstrip('/')}/chat/completions"
        self.spec = spec
        self.session = requests.Session()
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=spec["batch_size"])
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)
        # A proxy of the environment is no way to this machine.
        self.session.trust_env = urlsplit(base_url).hostname not in ("127.0.0.1", "localhost", "::1")
        key = os.environ.get(spec["api_key_variable"])
        # As an auth object: requests would put a name of ~/.netrc over a plain header.
        self.session.auth = _bearer(key)

    def generate(self, requests: Sequence[TextRequest]) -> list[Text | EngineError]:
        with ThreadPoolExecutor(max(1, min(len(requests), self.spec["batch_size"]))) as pool:
            return list(pool.map(self._answer, requests))

    def _answer(self, request: TextRequest) -> Text | EngineError:
        pause_s = _FIRST_PAUSE_S
        for number in range(self.spec["tries"]):
            try:
                return self._once(request, request.seed + _SEED_STEP * number)
            except _Again as again:
                failure = again
            if number + 1 < self.spec["tries"]:
                time.sleep(min(failure.wait_s if failure.wait_s is not None else pause_s, self.spec["max_wait_s"]))
                pause_s *= 2
        return EngineError(failure.kind, f"{failure.detail}, {self.spec['tries']} tries")

    def _once(self, request: TextRequest, seed: int) -> Text:
        status, headers, data = self._send(self._body(request, seed))
        if status in _FATAL:
            why = _FATAL[status].format(variable=self.spec["api_key_variable"])
            raise Failure(f"{self.url}: {status}: {why} (model {self.spec['model']}): {_told(data)}")
        if status == 429 or status >= 500 or status == 408:
            raise _Again(f"status {status}", wait_s=_retry_after(headers.get("Retry-After")))
        if status != 200:
            raise _Again(f"status {status}: {_told(data)}", wait_s=0.0)
        try:
            choice = json.loads(data)["choices"][0]
            text, reason = choice["message"]["content"], choice.get("finish_reason")
        except (ValueError, RecursionError):
            raise _Again("the answer is no JSON") from None
        except (LookupError, TypeError, AttributeError):
            raise _Again("the answer has no choices") from None
        if text is not None and not isinstance(text, str):
            raise _Again("the answer has no text")
        made = finished(text or "", complete=reason != "length")
        if isinstance(made, EngineError):
            raise _Again(made.detail, kind=made.kind, wait_s=0.0)
        return made

    def _body(self, request: TextRequest, seed: int) -> dict:
        messages = [{"role": "system", "content": request.system}, {"role": "user", "content": request.prompt}]
        body = {
            "model": self.spec["model"],
            "messages": messages,
            "seed": seed & 0x7FFFFFFF,
            "stream": False,
            **{key: self.spec[key] for key in ("temperature", "top_p", "max_tokens")},
        }
        if request.schema is not None:
            shape = {"name": "answer", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        return body

    def _send(self, body: dict) -> tuple[int, dict, bytes]:
        """Status, headers and body, all of it before timeout_s: a server that drips counts as one that hangs."""
        timeout_s = self.spec["timeout_s"]
        deadline_s = time.monotonic() + timeout_s
        try:
            with self.session.post(
                self.url, json=body, timeout=(min(_CONNECT_S, timeout_s), timeout_s), stream=True, allow_redirects=False
            ) as response:
                parts: list[bytes] = []
                size = 0
                # Byte by byte, out of urllib3's buffer: a block would wait until it is full, past any deadline.
                for part in response.iter_content(1):
                    parts.append(part)
                    size += len(part)
                    if time.monotonic() > deadline_s:
                        raise _Again(f"no whole answer within {timeout_s:g} s")
                    if size > _MAX_BODY_BYTES:
                        raise _Again(f"an answer of more than {_MAX_BODY_BYTES >> 20} MiB")
                declared = response.headers.get("Content-Length", "")
                if declared.isdigit() and "Content-Encoding" not in response.headers and int(declared) != size:
                    raise _Again("the connection was cut")
                return response.status_code, dict(response.headers), b"".join(parts)
        except requests.Timeout:
            raise _Again(f"no answer within {timeout_s:g} s") from None
        except (
            requests.ConnectionError,
            requests.exceptions.ChunkedEncodingError,
            requests.exceptions.ContentDecodingError,
        ):
            raise _Again("the connection was refused or cut") from None


def _bearer(key: str | None):
    def authorise(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if key:
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    return authorise


def _told(data: bytes) -> str:
    """What a server says of an error, on one line."""
    text = data[:2000].decode("utf-8", errors="replace")
    try:
        found = json.loads(text)
        error = found.get("error", found) if isinstance(found, dict) else found
        text = str(error.get("message", error) if isinstance(error, dict) else error)
    except ValueError:
        pass
    return " ".join(text.split())[:200]


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
