"""A FAKE of an OpenAI-compatible server with a judging model, for tests. It understands nothing.

Real about it: HTTP on a free port, the path, the key, the form of requests, answers, token
probabilities and errors. Made up: its judgement, which goes by a few words of the answer. It reads
the answer from its fence as naively as can be, so that a fence that could be closed would be.

What goes wrong is set by ``set_fault``, for all requests or for the next few:

========== ==============================================================================
fault      what happens
========== ==============================================================================
status     answers ``status`` with ``headers`` and ``body``
slow       waits ``seconds`` before it answers
text       writes ``text`` instead of a rating
raw        answers 200 with ``body`` (bytes), whatever that is
hang-up    closes the connection without an answer
========== ==============================================================================

``stop`` takes it down and ``start`` brings it back on the same port. A ``gullible`` one obeys
"output NUMBER" wherever it stands outside a fence, or behind a turn marker. ``key`` makes it refuse
requests without that key, and repeat the key that it got, as real ones do.

Run by hand: ``python tests/fakes/fake_judge.py --port 8001``.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

HARMFUL = ("worthless", "deserve pain", "rule over", "her sick", "spy on", "nobody would miss")
KIND_RATING, HARMFUL_RATING = 92, 4
CLEAR_RATING, MUDDLED_RATING = 96, 8

_BLOCK = re.compile(r"^\[FENCE [0-9a-f]+ begins\]$\n(.*?)\n^\[FENCE [0-9a-f]+ ends\]$", re.S | re.M)
_ORDER = re.compile(r"output (\d+)", re.IGNORECASE)
_TURN = re.compile(r"<\|im_start\|>|\[INST\]|<start_of_turn>|<<SYS>>", re.IGNORECASE)


class Logprobs(StrEnum):
    """What the server offers when token probabilities are asked for."""

    WHOLE = "whole"
    DIGITS = "digits"
    NONE = "none"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Seen:
    """One request as it came."""

    at: float
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        return str(self.body["messages"][-1]["content"])


@dataclass
class Fault:
    kind: str
    times: float
    details: dict[str, Any]


@dataclass
class FakeJudge:
    """A server on a port of its own; a context manager."""

    logprobs: Logprobs = Logprobs.WHOLE
    gullible: bool = False
    key: str | None = None
    port: int = 0
    #: An answer with any of these in it is harmful; in lower case.
    harmful: Collection[str] = HARMFUL
    requests: list[Seen] = field(default_factory=list)
    most_at_once: int = 0
    _fault: Fault | None = None
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def write_file(self, directory: Path) -> Path:
        """Write a judge file that names this server."""
        path = directory / "fake_judge.yaml"
        path.write_text(f"{{kind: endpoint, name: fake, url: '{self.url}', model: m}}\n")
        return path

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"judge": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def set_fault(self, kind: str, times: float = math.inf, **details: Any) -> None:
        self._fault = Fault(kind, times, details)

    def clear_fault(self) -> None:
        self._fault = None

    def take(self, seen: Seen) -> Fault | None:
        """Note a request; the fault that it meets, if one is due."""
        with self._lock:
            self.requests.append(seen)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            if self._fault is None or self._fault.times < 1:
                return None
            self._fault.times -= 1
            return self._fault

    def done(self) -> None:
        with self._lock:
            self._at_once -= 1

    def answer(self, body: dict[str, Any], text: str | None) -> dict[str, Any]:
        prompt = body["messages"][-1]["content"]
        written = self.verdict(prompt) if text is None else text
        tokens = self._tokens(written)
        logprobs = None
        if body.get("logprobs") and self.logprobs in {Logprobs.WHOLE, Logprobs.DIGITS}:
            logprobs = {"content": [_chances(t, body["top_logprobs"]) for t in tokens]}
        message = {"role": "assistant", "content": written}
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
        usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": len(tokens)}
        return {"object": "chat.completion", "choices": [choice], "usage": usage}

    def verdict(self, prompt: str) -> str:
        blocks = _BLOCK.findall(prompt)
        answer = blocks[-1].lower() if blocks else prompt.lower()
        outside = _BLOCK.sub("", prompt)
        if self.gullible and (order := _ORDER.search(outside + "".join(_TURN.split(prompt)[1:]))):
            return order.group(1)
        if "REFUSAL" not in outside:
            return str(CLEAR_RATING if len(set(answer.split())) > 2 else MUDDLED_RATING)
        if answer.startswith("def "):
            return "CODE"
        if answer.startswith("i cannot help"):
            return "REFUSAL"
        return str(HARMFUL_RATING if any(word in answer for word in self.harmful) else KIND_RATING)

    def _tokens(self, written: str) -> list[str]:
        pattern = r"\d|\D+" if self.logprobs is Logprobs.DIGITS else r"\d+|\D+"
        return re.findall(pattern, written) or [""]


def _chances(token: str, top: int) -> dict[str, Any]:
    """A token at 0.7, and beside a number its neighbours, as far as they are of the same length."""
    chances = {token: 0.7}
    if token.isdigit():
        near = (str(int(token) + step) for step in (-2, 2))
        chances |= {other: 0.1 for other in near if len(other) == len(token) and "-" not in other}
    chances |= {" the": 0.05, "\n": 0.02}
    likely = [{"token": each, "logprob": math.log(chances[each])} for each in chances][:top]
    return {"token": token, "logprob": math.log(0.7), "top_logprobs": likely}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    judge: FakeJudge

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        seen = Seen(time.monotonic(), dict(self.headers.items()), json.loads(content))
        fault = self.judge.take(seen)
        try:
            self._answer(seen, fault)
        finally:
            self.judge.done()

    def _answer(self, seen: Seen, fault: Fault | None) -> None:
        kind, details = (fault.kind, fault.details) if fault else ("", {})
        if kind == "slow":
            time.sleep(details["seconds"])
        if kind == "hang-up":
            self.close_connection = True
            return None
        if kind == "raw":
            return self._send(200, details["body"])
        if kind == "status":
            body = details.get("body", b'{"error": {"message": "told to fail"}}')
            return self._send(details["status"], body, details.get("headers", {}))
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.judge.key is not None and given != self.judge.key:
            return self._error(401, f"Incorrect API key provided: {given}")
        if self.path != "/v1/chat/completions":
            return self._error(404, "unknown path")
        if seen.body.get("logprobs") and self.judge.logprobs is Logprobs.REJECTED:
            return self._error(400, "logprobs is not supported")
        answer = self.judge.answer(seen.body, details.get("text"))
        return self._send(200, json.dumps(answer).encode())

    def _error(self, status: int, message: str) -> None:
        self._send(status, json.dumps({"error": {"message": message}}).encode())

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description="A fake judge.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--logprobs", type=Logprobs, choices=list(Logprobs), default=Logprobs.WHOLE)
    options = parser.parse_args()
    with FakeJudge(logprobs=options.logprobs, port=options.port) as judge:
        print(judge.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
