"""The client of OpenAI-compatible servers: what goes wrong is an error after its tries, never a text."""

import threading
import time
from email.utils import formatdate

import pytest
from fake_server import Fake, completion

from voxmake.errors import Failure
from voxmake.writing.engine import EngineError, Text, TextRequest, seed_of, without_thoughts
from voxmake.writing.openai import OpenAI, _retry_after

SPEC = {
    "model": "m", "temperature": 0.5, "top_p": 0.9, "max_tokens": 50, "tries": 3, "timeout_s": 0.5, "max_wait_s": 0.05,
    "api_key_variable": "TEST_KEY", "batch_size": 4,
}  # fmt: skip


def request(number=0, **extra):
    return TextRequest(f"i{number}", "system", f"prompt {number}", seed_of(1, f"i{number}", 1), **extra)


@pytest.fixture
def serve():
    servers = []

    def serve(behaviour):
        server = Fake(behaviour)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


FAULTS = {
    "500": (("status", 500), "engine_failed", "status 500"),
    "429": (("status", 429, {"Retry-After": "0"}), "engine_failed", "status 429"),
    "400": (("status", 400), "engine_failed", "status 400: told so"),
    "hang": (("hang", 1.0), "engine_failed", "no answer within 0.5 s"),
    "drip": (("drip",), "engine_failed", "no whole answer within 0.5 s"),
    "cut": (("cut",), "engine_failed", "refused or cut"),
    "no json": (("raw", b"<html>busy</html>"), "engine_failed", "no JSON"),
    "half json": (("raw", b'{"choices": [{"mess'), "engine_failed", "no JSON"),
    "no choices": (("json", {"choices": []}), "engine_failed", "no choices"),
    "null message": (("json", {"choices": [{"message": None}]}), "engine_failed", "no choices"),
    "a list": (("json", []), "engine_failed", "no choices"),
    "empty": (("json", completion("  ")), "no_text", "empty"),
    "null": (("json", completion(None)), "no_text", "empty"),
    "thinking only": (("json", completion("<think>hm")), "no_text", "thinking only"),
    "truncated": (("json", completion("Half a sen", "length")), "no_text", "cut short"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_tried_again_and_then_an_error(serve, fault):
    answer, kind, told = FAULTS[fault]
    server = serve(lambda body, number: answer)
    [error] = OpenAI(server.url, SPEC).generate([request()])
    assert isinstance(error, EngineError)
    assert (error.kind, told in error.detail) == (kind, True), error
    assert len(server.bodies) == 3
    assert len({body["seed"] for body in server.bodies}) == 3


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_costs_nothing_but_time(serve, fault):
    server = serve(lambda body, number: FAULTS[fault][0] if number == 1 else "Good evening.")
    assert OpenAI(server.url, SPEC).generate([request()]) == [Text("Good evening.")]
    assert len(server.bodies) == 2


def test_one_bad_request_harms_no_other(serve):
    server = serve(
        lambda body, number: (
            ("status", 500) if body["messages"][1]["content"] == "prompt 3" else body["messages"][1]["content"]
        )
    )
    answers = OpenAI(server.url, SPEC).generate([request(number) for number in range(6)])
    assert [getattr(answer, "text", None) for answer in answers] == [
        *(f"prompt {n}" for n in range(3)),
        None,
        "prompt 4",
        "prompt 5",
    ]


def test_nobody_there():
    [error] = OpenAI("http://127.0.0.1:9/v1", SPEC).generate([request()])
    assert error == EngineError("engine_failed", "the connection was refused or cut, 3 tries")


@pytest.mark.parametrize(("status", "told"), [(401, "TEST_KEY is missing or wrong"), (404, "no such address or model")])
def test_what_fails_every_request_stops_the_run(serve, monkeypatch, status, told):
    monkeypatch.setenv("TEST_KEY", "sk-CANARY")
    server = serve(lambda body, number: ("status", status))
    with pytest.raises(Failure, match=told) as failure:
        OpenAI(server.url, SPEC).generate([request()])
    assert "CANARY" not in str(failure.value)
    assert len(server.bodies) == 1


def test_retry_after_is_read_as_seconds_or_as_a_date(serve):
    assert _retry_after(None) is _retry_after("soon") is None
    assert _retry_after("0.3") == 0.3
    assert 50 < _retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60
    assert _retry_after(formatdate(time.time() - 60, usegmt=True)) == 0
    # An hour is asked for; max_wait_s ends that at once, or this test would not come back.
    server = serve(lambda body, number: ("status", 429, {"Retry-After": "3600"}) if number == 1 else "Yes.")
    assert OpenAI(server.url, SPEC).generate([request()]) == [Text("Yes.")]


def test_what_is_sent(serve, monkeypatch, tmp_path):
    monkeypatch.setenv("TEST_KEY", "sk-1")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server = serve(lambda body, number: "Yes.")
    OpenAI(server.url, SPEC).generate([request(schema={"type": "object"})])
    [body] = server.bodies
    assert server.headers[0]["Authorization"] == "Bearer sk-1"
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert (body["model"], body["temperature"], body["top_p"], body["max_tokens"]) == ("m", 0.5, 0.9, 50)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert body["seed"] == seed_of(1, "i0", 1) < 2**31


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<think>a\nb</think>\nHello.", "Hello."),
        ("<think>never closed", ""),
        ("the template opened it</think>Hello.", "Hello."),
        ("<thinking>x</thinking>A.<think>y</think> B.", "A. B."),
        ("I think of you.", "I think of you."),
    ],
)
def test_thoughts_are_taken_out(text, left):
    assert without_thoughts(text) == left
