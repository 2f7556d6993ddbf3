"""A FAKE of the vLLM server, for tests. It serves no language model worth the name.

Real about it: the command line, the Unix socket, HTTP, the paths and the form of the answers, a
child process beside the server, and the log-likelihoods, which a small Llama of its own (numpy,
float32) computes from the files it is told to serve. Made up: the words of its answers.

What goes wrong is read from a control file (``--control FILE``, or ``FAKE_ENGINE_CONTROL``), again
at every request, so that a test may change it while the engine runs::

    {"fault": "die", "after": 5, "times": "once"}

=============== ====================================================================
fault           what happens
=============== ====================================================================
die-at-start    writes ``message`` to its log and exits with 1
never-healthy   runs, but /health answers 503
die             SIGKILLs itself at the chat answer after the first ``after``
break           from then on answers 500 and is unhealthy, as vLLM does after a death
hold            keeps every chat answer from then on back until the fault is gone
slow            waits ``seconds`` before every answer
lying-swap      answers 200 to reload_weights and keeps its weights
wrong-weights   serves other weights than those it was told to
deaf            ignores SIGTERM
mute-metrics    answers nothing to /metrics until the fault is gone
=============== ====================================================================

``times``: ``always`` (default), or ``once`` in the life of the control file, over all engines that
read it. Every engine appends what it does to ``FILE.events``, one JSON object a line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from fakes.fake_llama import FakeLlama

ANSWERS = (
    "Take a long walk, call a good friend, and cook something warm for dinner.",
    "I would talk to them calmly and honestly, and listen to what they have to say.",
    "Make a small plan for the week and do the first step of it today.",
    "Ask a doctor or a person whom you trust; they can help you with this.",
    "Read a good book, tidy your room, or learn a few chords on a guitar.",
    "Be patient with yourself. Most people need some time for this, and that is fine.",
)
POLL_SECONDS = 0.05
#: As vLLM's page: some of its own metrics, with the times of first use, and those of its process.
METRICS = """\
# HELP python_info Python platform information
# TYPE python_info gauge
python_info{implementation="CPython",version="3.11"} 1.0
# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 12.5
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="candidate"} 3.0
# HELP vllm:generation_tokens_total Number of generation tokens processed.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="candidate"} 640.0
# HELP vllm:generation_tokens_created Number of generation tokens processed.
# TYPE vllm:generation_tokens_created gauge
vllm:generation_tokens_created{engine="0",model_name="candidate"} 1.7e+09
# HELP vllm:e2e_request_latency_seconds Histogram of e2e request latency in seconds.
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_bucket{engine="0",le="1.0",model_name="candidate"} 4.0
vllm:e2e_request_latency_seconds_bucket{engine="0",le="+Inf",model_name="candidate"} 5.0
vllm:e2e_request_latency_seconds_count{engine="0",model_name="candidate"} 5.0
vllm:e2e_request_latency_seconds_sum{engine="0",model_name="candidate"} 6.5
"""
#: Those that move with what the engine is asked: the answers, and the tokens of what it scores.
MOVING_METRICS = """\
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{engine="0",model_name="candidate"}} 0.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{engine="0",model_name="candidate"}} 0.25
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{{engine="0",model_name="candidate"}} {scored}
# HELP vllm:time_to_first_token_seconds Histogram of time to first token in seconds.
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{{engine="0",le="0.1",model_name="candidate"}} {answered}
vllm:time_to_first_token_seconds_bucket{{engine="0",le="+Inf",model_name="candidate"}} {answered}
vllm:time_to_first_token_seconds_count{{engine="0",model_name="candidate"}} {answered}
vllm:time_to_first_token_seconds_sum{{engine="0",model_name="candidate"}} 0.0
"""


class Control:
    """The control file: what is to go wrong, and the log of what the engine does."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lock = threading.Lock()

    def read(self) -> dict[str, Any]:
        if self._file is None or not self._file.is_file():
            return {}
        wanted: dict[str, Any] = json.loads(self._file.read_text() or "{}")
        if wanted.get("times") == "once" and self._fired(wanted["fault"]).exists():
            return {}
        return wanted

    def fault(self, name: str, done: int = 0) -> dict[str, Any] | None:
        """The fault of that name, if it is due after that many answers; then it has happened."""
        wanted = self.read()
        if wanted.get("fault") != name or done < wanted.get("after", 0):
            return None
        if wanted.get("times") == "once":
            self._fired(name).touch()
        return wanted

    def note(self, event: str, **details: Any) -> None:
        if self._file is None:
            return
        line = json.dumps({"event": event, "pid": os.getpid(), **details}) + "\n"
        with self._lock, Path(f"{self._file}.events").open("a") as log:
            log.write(line)

    def _fired(self, name: str) -> Path:
        return Path(f"{self._file}.{name}-happened")


@dataclass
class Engine:
    """What one engine process knows."""

    control: Control
    model: Path
    llama: FakeLlama
    adapters: dict[str, Path] = field(default_factory=dict)
    answered: int = 0
    scored: int = 0
    broken: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self, directory: Path) -> None:
        spoiled = self.control.fault("wrong-weights") is not None
        with self.lock:
            self.model, self.llama = directory, FakeLlama.load(directory, spoiled)

    def healthy(self) -> bool:
        return not self.broken and self.control.fault("never-healthy") is None

    def answer(self, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        question = body["messages"][-1]["content"]
        with self.lock:
            done = self.answered
            if self.control.fault("die", done):
                print("RuntimeError: the fake engine was told to die", file=sys.stderr, flush=True)
                self.control.note("dies", answered=done)
                os.kill(os.getpid(), signal.SIGKILL)
            if self.control.fault("break", done):
                print("RuntimeError: the fake engine core broke", file=sys.stderr, flush=True)
                self.broken = True
            self.answered += 1
        while self.control.fault("hold", done):
            time.sleep(POLL_SECONDS)
        chosen = int(hashlib.sha256(question.encode()).hexdigest(), 16) % len(ANSWERS)
        words = ANSWERS[chosen]
        self.control.note("answer", question=question, model=str(self.model), headers=headers)
        return {
            "choices": [
                {"message": {"role": "assistant", "content": words}, "finish_reason": "stop"}
            ],
            "usage": {"completion_tokens": len(words.split())},
        }

    def score(self, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        ids = [int(token) for token in body["prompt"]]
        with self.lock:
            numbers = self.llama.log_likelihoods(ids)
            self.scored += len(ids)
        entries: list[dict[str, Any] | None] = [None]
        entries += [
            {str(token): {"logprob": number, "rank": 1, "decoded_token": "?"}}
            for token, number in zip(ids[1:], numbers, strict=True)
        ]
        self.control.note("score", tokens=len(ids), model=str(self.model), headers=headers)
        return {
            "choices": [{"text": "", "finish_reason": "length", "prompt_logprobs": entries}],
            "usage": {"completion_tokens": 1},
        }

    def moving_metrics(self) -> str:
        with self.lock:
            return MOVING_METRICS.format(scored=self.scored, answered=self.answered)

    def remote_call(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["method"] != "reload_weights":
            raise ValueError(f"the fake engine knows no method {body['method']}")
        directory = Path(body["kwargs"]["weights_path"])
        if self.control.fault("lying-swap"):
            self.control.note("lied", model=str(directory))
        else:
            self.load(directory)
            self.control.note("swap", model=str(directory))
        return {"results": [None]}


class Handler(BaseHTTPRequestHandler):
    """HTTP as far as the gate uses it."""

    protocol_version = "HTTP/1.1"
    engine: Engine

    def do_GET(self) -> None:
        if self.path == "/metrics":
            while self.engine.control.fault("mute-metrics"):
                time.sleep(POLL_SECONDS)
            return self._send_text(METRICS + self.engine.moving_metrics())
        if self.path != "/health":
            return self._send(404, {"error": "unknown path"})
        return self._send(200 if self.engine.healthy() else 503, None)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null") or {}
        engine = self.engine
        slow = engine.control.fault("slow")
        if slow:
            time.sleep(slow["seconds"])
        if engine.broken:
            return self._send(500, {"error": "the engine core is dead"})
        if self.path == "/v1/chat/completions":
            answer = engine.answer(body, self._told())
            if engine.broken:
                return self._send(500, {"error": "the engine core is dead"})
            return self._send(200, answer)
        if self.path == "/v1/completions":
            return self._send(200, engine.score(body, self._told()))
        if self.path == "/collective_rpc":
            return self._send(200, engine.remote_call(body))
        if self.path == "/v1/load_lora_adapter":
            engine.adapters[body["lora_name"]] = Path(body["lora_path"])
            return self._send(200, None)
        if self.path == "/v1/unload_lora_adapter":
            engine.adapters.pop(body["lora_name"], None)
            return self._send(200, None)
        if self.path == "/reset_prefix_cache":
            return self._send(200, None)
        return self._send(404, {"error": "unknown path"})

    def _told(self) -> dict[str, str]:
        """By which names the gate calls this request."""
        names = ("x-request-id", "traceparent")
        return {name: value for name in names if (value := self.headers.get(name))}

    def _send(self, status: int, body: dict[str, Any] | None) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        if body is not None:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _send_text(self, text: str) -> None:
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """One thread per connection, as many connections as come."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--control", type=Path, default=os.environ.get("FAKE_ENGINE_CONTROL"))
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--uds", required=True)
    options, _ignored = parser.parse_known_args()
    control = Control(Path(options.control) if options.control else None)
    control.note("start", model=str(options.model))
    if control.fault("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if fault := control.fault("die-at-start"):
        print(fault["message"], file=sys.stderr, flush=True)
        return 1
    child = subprocess.Popen(["sleep", "3600"])
    spoiled = control.fault("wrong-weights") is not None
    Handler.engine = Engine(control, options.model, FakeLlama.load(options.model, spoiled))
    with Server(options.uds, Handler) as server:
        control.note("ready", child=child.pid)
        print(f"INFO 01-01 00:00:00 [fake] the fake engine serves {options.model}", flush=True)
        server.serve_forever(poll_interval=POLL_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
