"""The commands that talk to the API, as processes, with the real API over real sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import junitparser
import psutil
from documented import documented, renamed
from fakes.gate import until

from integration.harness import Service, emgate_in

KEY = "emg_0a1b_not-a-key-of-any-gate"


def environment(service: Service) -> dict[str, str]:
    return {**os.environ, "GATE_URL": service.local.url}


def emgate(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    return emgate_in(environment(service), *arguments)


def read(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def test_a_pass_is_submitted_followed_and_asked_for_again(
    service: Service, tiny_base: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    junit, report = tmp_path / "gate.xml", tmp_path / "gate.html"
    request = ["submit", str(tiny_adapter), "--base", str(tiny_base), "--policy", "passes"]
    request += ["--metadata", "git_sha=4f2a9c1", "--idempotency-key", "pipeline-17"]
    files = ["--junit", str(junit), "--report", str(report)]

    waited = emgate(service, *request, "--wait", "--json", *files)

    assert waited.returncode == 0, waited.stderr
    submission = read(waited)["submission"]
    assert read(waited)["verdict"]["outcome"] == submission["outcome"] == "pass"
    cases = [case for suite in junitparser.JUnitXml.fromfile(str(junit)) for case in suite]
    assert cases
    assert "<html" in report.read_text(encoding="utf-8")

    # The same key is the same submission, which is not run again.
    again = emgate(service, *request)
    assert again.stdout.strip() == submission["id"]
    shown = emgate(service, "verdict", submission["id"])
    assert shown.returncode == 0
    assert "PASS" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert submission["id"] in emgate(service, "status", submission["id"]).stdout

    decided = ["list", "--state", "decided", "--metadata", "git_sha=4f2a9c1", "--json"]
    assert [item["id"] for item in read(emgate(service, *decided))["items"]] == [submission["id"]]
    assert read(emgate(service, *decided, "--outcome", "fail"))["items"] == []
    samples = read(emgate(service, "samples", submission["id"], "--role", "baseline", "--json"))
    assert samples["items"]
    assert all(sample["text"] for sample in samples["items"])

    # A new one with the same content is answered by the verdict that stands.
    retried = emgate(service, "retry", submission["id"]).stdout.strip()
    assert retried != submission["id"]
    until(lambda: emgate(service, "verdict", retried).returncode == 0)
    assert submission["id"] in emgate(service, "status", retried).stdout


def test_the_session_of_the_docs_is_what_the_commands_print(
    service: Service, tiny_base: Path, tiny_adapter: Path
) -> None:
    """EMGATE_WRITE_DOCS=1 writes docs/cli.md anew; ids, times and figures may differ from it."""
    fields = ["--json", "--state", "decided", "--metadata", "version=7"]
    request = ["submit", str(tiny_adapter), "--base", str(tiny_base), "--policy", "fails"]
    request += ["--metadata", "model=support", "--metadata", "version=7", "--wait"]
    asked = [request]
    waited = emgate(service, *request)
    (item,) = read(emgate(service, "list", *fields))["items"]
    asked += [["status", item["id"]], ["list", "--outcome", "fail", "--metadata", "version=7"]]
    asked += [["verdict", item["id"]]]
    asked += [["samples", item["id"], "--check", "harmful-compliance", "--limit", "3"]]
    ran = [waited, *(emgate(service, *arguments) for arguments in asked[1:])]
    assert [done.returncode for done in ran] == [1, 0, 0, 1, 0]
    shown = "".join(
        f"$ emgate {' '.join(arguments)}\n{done.stderr}{done.stdout}"
        + (f"$ echo $?\n{done.returncode}\n" if done.returncode else "")
        for arguments, done in zip(asked, ran, strict=True)
    )
    shown = renamed(shown, {tiny_adapter: "/checkpoints/tuned", tiny_base: "/checkpoints/base"})
    # Which states a run has been through, and whose answer came first.
    states = "queued|preparing|serving|sampling|judging|decided"
    in_docs, now = documented("cli.md", "console", shown, rf"│ ({states}|harmful-compliance) ")
    assert in_docs == now


def test_an_uploaded_directory_is_judged(
    service: Service, tiny_base: Path, tiny_adapter: Path
) -> None:
    options = ["--base", str(tiny_base), "--policy", "fails", "--upload", "--wait"]
    done = emgate(service, "submit", str(tiny_adapter), *options)
    assert done.returncode == 1, done.stderr
    assert "upload://sha256:" in done.stdout
    assert "FAIL" in done.stdout


def test_what_the_gate_refuses_is_told_in_its_words(service: Service) -> None:
    outside = emgate(service, "submit", "/etc", "--json")
    assert outside.returncode == 2
    assert json.loads(outside.stderr)["error"]["status"] == 403
    unknown = emgate(service, "status", "00000000")
    assert unknown.returncode == 2
    assert unknown.stderr == "emgate: There is no submission '00000000'.\n"


def test_who_stops_waiting_leaves_it_running_and_who_cancels_has_no_verdict(
    fresh_service: Callable[..., Service], tiny_base: Path, tiny_adapter: Path
) -> None:
    service = fresh_service(worker=False)
    request = ["submit", str(tiny_adapter), "--base", str(tiny_base), "--policy", "passes"]

    in_time = emgate(service, *request, "--wait", "--timeout", "1", "--json")
    assert in_time.returncode == 4
    assert json.loads(in_time.stderr)["error"]["kind"] == "timeout"
    assert "emgate status " in in_time.stderr

    command = [sys.executable, "-m", "gate", *request, "--wait"]
    waiting = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(service),
    )
    assert waiting.stderr
    submission_id = waiting.stderr.readline().split()[-1]
    until(lambda: connections(service) == 1)
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(60) == 4
    assert f"submission {submission_id} goes on: emgate status" in waiting.stderr.read()
    waiting.stderr.close()

    not_yet = emgate(service, "verdict", submission_id)
    assert not_yet.returncode == 2
    assert "has not ended: it is queued" in not_yet.stderr
    for _ in range(2):
        assert read(emgate(service, "cancel", submission_id, "--json"))["state"] == "cancelled"
    cancelled = emgate(service, "verdict", submission_id)
    assert cancelled.returncode == 4
    assert "was cancelled" in cancelled.stderr


def test_a_wait_outlives_the_api(
    fresh_service: Callable[..., Service], tiny_base: Path, tiny_adapter: Path
) -> None:
    service = fresh_service(worker=False)
    request = ["submit", str(tiny_adapter), "--base", str(tiny_base), "--policy", "passes"]
    waiting = subprocess.Popen(
        [sys.executable, "-m", "gate", *request, "--wait"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(service),
    )
    assert waiting.stderr
    submission_id = waiting.stderr.readline().split()[-1]
    until(lambda: connections(service) == 1)
    service.kill("api")
    service.local.start_api()
    assert emgate(service, "cancel", submission_id).returncode == 0
    _, said = waiting.communicate(timeout=120)
    assert waiting.returncode == 4
    assert said == f"emgate: submission {submission_id} was cancelled; there is no verdict\n"


def test_the_key_is_not_printed_with_a_refusal(service: Service) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gate", "submit", "/etc"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**environment(service), "GATE_API_KEY": KEY},
    )
    assert done.returncode == 2
    assert "not under a checkpoint root" in done.stderr
    assert KEY not in done.stdout + done.stderr


def connections(service: Service) -> int:
    """How many connections to this API are open."""
    port = service.settings.api_port
    keeper = psutil.Process(service.local.children["api"].pid)
    found = [c for p in keeper.children() for c in p.net_connections("tcp")]
    return sum(c.status == psutil.CONN_ESTABLISHED and c.laddr.port == port for c in found)
