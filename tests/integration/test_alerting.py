"""The real programs accept the configuration and the cases, and a real Prometheus alerts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from alert_rules import CASE_FILES, PROMETHEUS, REPOSITORY, RULE_FILES, read
from fakes.gate import until
from fakes.receiver import Reply, free_port, receiving
from prometheus import program, prometheus_of

ALERTMANAGER = REPOSITORY / "deploy" / "alertmanager" / "alertmanager.yml"
API_KEY = "emg_key_of_prometheus"


def run(tool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    # The data of every case is written and read back; memory is quicker than a busy disk.
    memory = Path("/dev/shm")
    environment = os.environ | ({"TMPDIR": str(memory)} if os.access(memory, os.W_OK) else {})
    return subprocess.run(
        [program(tool), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=300,
    )


def assert_accepted(tool: str, *arguments: str | Path) -> None:
    done = run(tool, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def deployed(tmp_path: Path) -> Path:
    """deploy/prometheus with the key that it needs, as a deployment has it."""
    copy = tmp_path / "prometheus"
    shutil.copytree(PROMETHEUS, copy)
    (copy / "secrets").mkdir()
    (copy / "secrets" / "emgate-key").write_text(API_KEY)
    return copy


class TestTools:
    def test_promtool_accepts_the_configuration(self, deployed: Path) -> None:
        assert_accepted("promtool", "check", "config", deployed / "prometheus.yml")

    def test_promtool_accepts_the_rules(self) -> None:
        assert_accepted("promtool", "check", "rules", *RULE_FILES)

    def test_amtool_accepts_the_configuration(self) -> None:
        assert_accepted("amtool", "check-config", ALERTMANAGER)

    @pytest.mark.parametrize(
        ("labels", "receiver"), [("severity=page", "page"), ("severity=ticket", "ticket")]
    )
    def test_severities_go_to_their_receivers(self, labels: str, receiver: str) -> None:
        told = run("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", labels)
        assert told.stdout.strip() == receiver

    @pytest.mark.parametrize("cases", CASE_FILES, ids=lambda path: path.stem)
    def test_the_alerts_do_what_the_cases_say(self, cases: Path) -> None:
        assert_accepted("promtool", "test", "rules", cases)

    def test_a_case_that_does_not_hold_is_found(self, deployed: Path) -> None:
        cases = deployed / "tests" / "engines.yml"
        text = cases.read_text().replace("0x4 1x4 2x9 3x40", "0x4 1x4 2x50")
        assert text != cases.read_text()
        cases.write_text(text)
        assert run("promtool", "test", "rules", cases).returncode != 0


def test_the_alert_that_no_api_answers_is_sent_and_taken_back(deployed: Path) -> None:
    """The shipped files on free ports; only waits are shortened and addresses replaced.

    What stands in for the Alertmanager is a fake: Debian's does not start without the files that
    its package puts under /usr/share.
    """
    api_port = free_port()
    with (
        receiving(lambda _request: Reply(200)) as manager,
        prometheus_of(quick(deployed, api_port, manager.port)) as server,
    ):

        def told() -> dict[str, Any] | None:
            """The newest that the Alertmanager was told of it."""
            sent = (
                alert for request in manager.requests[::-1] for alert in json.loads(request.body)
            )
            return next((one for one in sent if one["labels"]["alertname"] == "EmgateDown"), None)

        alert = until(told, 60)
        assert manager.requests[0].path == "/api/v2/alerts"
        assert alert["labels"]["severity"] == "page"
        assert alert["annotations"]["runbook_url"].endswith("/docs/runbook.md#emgatedown")
        assert not is_over(alert)
        groups = server.api.get("/api/v1/rules").json()["data"]["groups"]
        assert "err" not in {rule["health"] for group in groups for rule in group["rules"]}

        page = Reply(200, b"emgate_record_up 1\n", {"content-type": "text/plain; version=0.0.4"})
        with receiving(lambda _request: page, port=api_port) as api:
            until(lambda: is_over(told() or alert), 60)
            assert api.header("authorization")[0] == f"Bearer {API_KEY}"


def is_over(alert: dict[str, Any]) -> bool:
    """Whether this says that an alert has ended; one that fires ends in the future."""
    return datetime.fromisoformat(alert["endsAt"]) <= datetime.now(UTC)


def quick(directory: Path, api_port: int, manager_port: int) -> Path:
    rules = directory / "rules" / "alerts.yml"
    groups = read(rules)
    for group in groups["groups"]:
        for rule in group["rules"]:
            if rule["alert"] == "EmgateDown":
                rule["for"] = "1s"
    written(rules, groups)
    config = read(directory / "prometheus.yml")
    config["global"] = dict.fromkeys(config["global"], "1s")
    (managers,) = config["alerting"]["alertmanagers"]
    managers["static_configs"] = [{"targets": [f"127.0.0.1:{manager_port}"]}]
    targets = {"emgate-api": [f"127.0.0.1:{api_port}"], "emgate-worker": []}
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": targets[job["job_name"]]}]
    return written(directory / "prometheus.yml", config)


def written(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path
