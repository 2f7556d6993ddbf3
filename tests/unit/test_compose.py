"""The Compose file names only what exists, shuts every service in, and opens nothing by itself."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import compose
import pytest
import yaml
from check_jsonschema.cli import main as check_jsonschema
from click.testing import CliRunner
from typer.testing import CliRunner as TyperRunner

from gate.access.loopback import listens_on_loopback
from gate.cli.app import COMMAND_GROUP
from gate.cli.app import app as commands
from gate.cli.lazy import LazyGroup
from gate.client.settings import ClientSettings
from gate.secret_files import VARIABLE
from gate.settings import Settings
from gate.tasks import QUEUES, celery_app

TEXT = compose.FILE.read_text()
CONTENT = compose.load()
SERVICES: dict[str, dict[str, Any]] = CONTENT["services"]
OURS = {name: s for name, s in SERVICES.items() if s["image"].startswith("em-gate:")}
WORKERS = {name: s for name, s in OURS.items() if s["command"][:2] == ["emgate", "worker"]}
DOCKERFILE = (compose.REPOSITORY / "deploy" / "Dockerfile").read_text()
PAGE = (compose.REPOSITORY / "docs" / "compose.md").read_text()

LASTING = {"api", *WORKERS}

each_service = pytest.mark.parametrize("name", SERVICES)
each_of_ours = pytest.mark.parametrize("name", OURS)


def variables_of(name: str) -> dict[str, str]:
    return compose.environment(SERVICES[name])


def path_in_image(path: str) -> Path:
    """Where the image has a relative path from, if it was copied there."""
    copied = re.findall(r"^COPY (\S+) \1$", DOCKERFILE, flags=re.MULTILINE)
    assert any(Path(path).is_relative_to(place) for place in copied), f"{path} is not in the image"
    return compose.REPOSITORY / path


def option(command: list[str], name: str) -> str:
    return str(command[command.index(name) + 1])


# The form


def test_it_is_of_the_form_of_the_compose_specification() -> None:
    asked = ["--builtin-schema", "vendor.compose-spec", str(compose.FILE)]
    answer = CliRunner().invoke(check_jsonschema, asked)
    assert answer.exit_code == 0, answer.output


def test_every_variable_has_a_default_and_is_explained() -> None:
    found = compose.variables(TEXT)
    assert found
    for name, default in found.items():
        assert re.search(rf"\| `{name}` \| `?{re.escape(default)}`? \|", PAGE), name


def test_a_variable_takes_the_place_of_its_default() -> None:
    given = compose.load({"API_PORT": "9000", "SECRETS": "/etc/em-gate/secrets"})
    assert given["services"]["api"]["ports"] == ["127.0.0.1:9000:8000"]
    assert given["secrets"]["database_url"]["file"] == "/etc/em-gate/secrets/database_url"


def test_what_is_named_is_declared_and_what_is_declared_is_used() -> None:
    mounted = {name: compose.mounts(CONTENT, service) for name, service in SERVICES.items()}
    volumes = {m.source for found in mounted.values() for m in found if m.is_volume}
    assert volumes == set(CONTENT["volumes"])
    networks = {network for service in SERVICES.values() for network in service["networks"]}
    assert networks == set(CONTENT["networks"])
    sources = {m.source for found in mounted.values() for m in found}
    for secret in CONTENT["secrets"].values():
        assert str((compose.REPOSITORY / secret["file"]).resolve()) in sources


@each_service
def test_nothing_is_mounted_twice_at_a_place(name: str) -> None:
    places = [mount.target for mount in compose.mounts(CONTENT, SERVICES[name])]
    assert len(places) == len(set(places))


@each_service
def test_every_file_that_is_mounted_exists(name: str) -> None:
    made = {compose.REPOSITORY / "checkpoints", compose.REPOSITORY / "deploy/compose/secrets"}
    for mount in compose.mounts(CONTENT, SERVICES[name]):
        source = Path(mount.source)
        if mount.is_bind and not made & {source, source.parent}:
            assert source.exists(), source


def test_services_wait_for_what_can_become_true_and_not_for_each_other() -> None:
    for name, service in SERVICES.items():
        for other, wanted in service.get("depends_on", {}).items():
            match wanted["condition"]:
                case "service_healthy":
                    assert "healthcheck" in SERVICES[other], f"{name} waits for {other}"
                case "service_completed_successfully":
                    assert SERVICES[other]["restart"] == "no", f"{name} waits for {other}"
                case unknown:
                    pytest.fail(f"{name} waits for {other}: {unknown}")
    graph = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("postgres") < order.index("migrate") < order.index("scrape-key")
    assert order.index("scrape-key") < min(order.index("api"), order.index("prometheus"))
    waiting = LASTING - {"judging"}
    assert all(order.index("migrate") < order.index(name) for name in waiting)


# Against the code


@each_of_ours
def test_its_command_exists_with_its_options(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *arguments = SERVICES[name]["command"]
    if program == "python":
        assert path_in_image(arguments[0]).is_file()
        return
    assert program == "emgate"
    entries = {entry.name: entry for entry in entry_points(group=COMMAND_GROUP)}
    monkeypatch.setattr(LazyGroup, "entries", entries)
    # Every word is parsed before the help is shown; an unknown one ends it with 2.
    answer = TyperRunner().invoke(commands, [*arguments, "--help"])
    assert answer.exit_code == 0, answer.output


@pytest.mark.parametrize("name", WORKERS)
def test_its_queues_exist(name: str) -> None:
    command = SERVICES[name]["command"]
    queues = option(command, "--queues").split(",") if "--queues" in command else ["engine"]
    assert set(queues) <= set(QUEUES)


def test_every_queue_has_a_worker() -> None:
    commands_of = [service["command"] for service in WORKERS.values()]
    asked = {option(c, "--queues") if "--queues" in c else "engine" for c in commands_of}
    assert asked == set(QUEUES)


@each_of_ours
def test_its_variables_are_settings_with_values_that_hold(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {*Settings.model_fields, *ClientSettings.model_fields}
    known = {f"GATE_{field.upper()}" for field in fields} | {VARIABLE}
    assert set(SERVICES[name]["environment"]) <= known
    for variable, value in variables_of(name).items():
        monkeypatch.setenv(variable, value)
    current = Settings()
    places = [m.target for m in compose.mounts(CONTENT, SERVICES[name])]
    if name in {"api", "worker-cpu", "worker-gpu"}:
        assert {str(current.home), *map(str, current.checkpoint_roots)} <= set(places)
    if name in LASTING:
        (directory,) = current.policy_directories
        assert str(directory.parent) in places


@each_of_ours
def test_its_secrets_are_those_that_it_needs(name: str) -> None:
    mounts = compose.mounts(CONTENT, SERVICES[name])
    targets = [Path(m.target) for m in mounts if "/run/secrets/" in m.target]
    assert {str(target.parent) for target in targets} == {variables_of(name)[VARIABLE]}
    judging = {"GATE_BROKER_URL", "JUDGE_API_KEY"}
    others = {"GATE_DATABASE_URL", "GATE_BROKER_URL"}
    assert {target.name for target in targets} == (judging if name == "judging" else others)
    settings = {f"GATE_{field.upper()}" for field in Settings.model_fields}
    assert others <= settings


def test_the_health_checks_and_published_ports_are_those_of_the_settings() -> None:
    usual = Settings()
    assert compose.health_command(SERVICES["api"])[2] == f"http://127.0.0.1:{usual.api_port}/health"
    for name, service in WORKERS.items():
        page = f"http://127.0.0.1:{usual.worker_metrics_port}/metrics"
        assert compose.health_command(service)[2] == page, name
        assert path_in_image(compose.health_command(service)[1]).is_file()
    assert SERVICES["api"]["ports"][0].endswith(f":{usual.api_port}")
    assert {variables_of(name)["GATE_URL"] for name in OURS} == {f"http://api:{usual.api_port}"}


def test_there_is_no_beat_because_nothing_is_scheduled_by_one() -> None:
    assert not celery_app("memory://").conf.beat_schedule
    assert not any("beat" in service.get("command", []) for service in SERVICES.values())


def test_what_listens_to_others_has_a_key_before_and_says_how_another_is_made() -> None:
    command = SERVICES["api"]["command"]
    assert not listens_on_loopback(option(command, "--host"))
    waits = SERVICES["api"]["depends_on"]["scrape-key"]["condition"]
    assert waits == "service_completed_successfully"
    assert "docker compose run --rm api emgate keys create" in TEXT


def test_prometheus_finds_the_key_and_asks_services_at_ports_that_they_have() -> None:
    places = {m.target: m.source for m in compose.mounts(CONTENT, SERVICES["prometheus"])}
    config = yaml.safe_load(Path(places["/etc/prometheus/prometheus.yml"]).read_text())
    (made,) = {m.target for m in compose.mounts(CONTENT, SERVICES["scrape-key"]) if m.is_volume}
    written = Path(SERVICES["scrape-key"]["command"][-1])
    assert str(written.parent) == made
    names = {
        alias: name
        for name, service in SERVICES.items()
        for alias in (name, *_aliases(service, "scrape"))
    }
    for job in config["scrape_configs"]:
        targets = [t for entry in job.get("static_configs", []) for t in entry["targets"]]
        for target in targets:
            service, port = target.split(":")
            assert names[service] in OURS, target
            assert f":{port}/" in compose.health_command(SERVICES[names[service]])[2], target
        if "authorization" in job:
            file = Path("/etc/prometheus", job["authorization"]["credentials_file"])
            assert places[str(file.parent)] == "scrape-key"
            assert file.name == written.name


def test_alertmanager_has_the_files_that_its_configuration_names() -> None:
    service = SERVICES["alertmanager"]
    places = {m.target: m.source for m in compose.mounts(CONTENT, service)}
    config = Path(places["/etc/alertmanager/alertmanager.yml"])
    named = re.findall(r"credentials_file: ([^\s}]+)", config.read_text())
    assert named
    for file in named:
        assert f"/etc/alertmanager/{file}" in places
    assert service["command"][0] == "--config.file=/etc/alertmanager/alertmanager.yml"


def test_grafana_has_its_provisioning_and_the_dashboards_where_that_looks() -> None:
    places = {m.target: Path(m.source) for m in compose.mounts(CONTENT, SERVICES["grafana"])}
    provisioning = places["/etc/grafana/provisioning"]
    (providers,) = (provisioning / "dashboards").glob("*.y*ml")
    (provider,) = yaml.safe_load(providers.read_text())["providers"]
    assert list(places[provider["options"]["path"]].glob("*.json"))
    (sources,) = (provisioning / "datasources").glob("*.y*ml")
    (source,) = yaml.safe_load(sources.read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"


def _aliases(service: dict[str, Any], network: str) -> list[str]:
    networks = service["networks"]
    return (networks[network] or {}).get("aliases", []) if isinstance(networks, dict) else []


# What it lets a container do


@each_service
def test_it_is_shut_in(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & set(service)
    user = service["user"].split(":")[0]
    assert user.isdecimal()
    assert int(user) > 0
    limits = service["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory", "pids"}
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert "/var/run/docker.sock" not in str(service)


@each_service
def test_it_has_a_health_check_or_ends_by_itself(name: str) -> None:
    service = SERVICES[name]
    if service["restart"] == "no":
        assert "healthcheck" not in service
        return
    check = service["healthcheck"]
    assert compose.seconds(check["timeout"]) <= compose.seconds(check["interval"])
    assert check["retries"] >= 3
    assert compose.seconds(check["start_period"]) > 0


@each_service
def test_its_image_has_a_version(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].partition(":")
    assert image == "em-gate" or re.search(r"\d+\.\d+", tag), tag


@each_of_ours
def test_what_the_gate_writes_lies_on_a_volume_or_in_memory(name: str) -> None:
    places = [m.target for m in compose.mounts(CONTENT, SERVICES[name]) if not m.read_only]
    written = dict(re.findall(r"\b(HOME|XDG_\w+|TORCH\w+|TRITON\w+)=(/\S+)", DOCKERFILE))
    assert {"HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"} <= set(written)
    for directory in ("/tmp", *written.values()):
        assert any(Path(directory).is_relative_to(place) for place in places), directory


def test_only_where_an_engine_compiles_can_programs_be_run_from_tmp() -> None:
    executable = {
        name
        for name, service in SERVICES.items()
        for mount in compose.mounts(CONTENT, service)
        if mount.target == "/tmp" and "exec" in mount.options.split(",")
    }
    assert executable == {"worker-cpu", "worker-gpu"}


def test_the_user_of_the_image_is_that_of_the_services() -> None:
    (user,) = re.findall(r"^USER (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    assert {service["user"] for service in OURS.values()} == {user}


def test_only_api_and_grafana_are_published_and_only_to_this_machine() -> None:
    published = {name: s["ports"] for name, s in SERVICES.items() if "ports" in s}
    assert published.keys() == {"api", "grafana"}
    for ports in published.values():
        assert all(port.startswith("127.0.0.1:") for port in ports)
    assert {name for name, s in SERVICES.items() if "front" in s["networks"]} == {"api", "grafana"}


def test_no_container_has_a_way_out_unless_its_own_is_opened() -> None:
    masquerade = "com.docker.network.bridge.enable_ip_masquerade"
    assert CONTENT["networks"].pop("front")["driver_opts"] == {masquerade: "false"}
    closed = {name: str(n["internal"]).lower() for name, n in CONTENT["networks"].items()}
    assert set(closed.values()) == {"true"}
    ways = {"sources", "judges", "webhooks", "pagers"}
    for way in ways:
        opened = compose.load({f"{way.upper()}_CLOSED": "false"})["networks"]
        assert {n for n in ways if str(opened[n]["internal"]).lower() == "false"} == {way}
    users = {way: {n for n, s in SERVICES.items() if way in s["networks"]} for way in ways}
    assert users == {
        "sources": {"worker-cpu", "worker-gpu"},
        "judges": {"judging"},
        "webhooks": {"notifier"},
        "pagers": {"alertmanager"},
    }


def test_record_and_broker_are_reached_by_who_needs_them() -> None:
    reached = {
        network: {name for name, s in SERVICES.items() if network in s["networks"]}
        for network in ("record", "broker")
    }
    assert reached["record"] == {*OURS, "postgres"} - {"judging"}
    assert reached["broker"] == {*LASTING, "valkey"}
    assert SERVICES["postgres"]["networks"] == ["record"]
    assert SERVICES["valkey"]["networks"] == ["broker"]


def test_what_a_judge_reads_is_kept_apart_from_record_and_checkpoints() -> None:
    places = {m.target: m.source for m in compose.mounts(CONTENT, SERVICES["judging"])}
    assert "/checkpoints" not in places
    others = [m.source for n in OURS if n != "judging" for m in compose.mounts(CONTENT, OURS[n])]
    assert places["/var/lib/em-gate"] not in others


@each_service
def test_no_secret_is_in_the_file(name: str) -> None:
    for variable, value in variables_of(name).items():
        secret = re.search(r"PASSWORD|SECRET|TOKEN|_KEY|DATABASE_URL|BROKER_URL", variable)
        assert not secret or value.startswith("/run/secrets"), variable


def test_the_gpu_is_for_its_worker_alone_and_only_if_asked_for() -> None:
    reserved = {n for n, s in SERVICES.items() if "reservations" in s["deploy"]["resources"]}
    assert reserved == {"worker-gpu"} == {n for n, s in SERVICES.items() if "profiles" in s}
    (device,) = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert variables_of("worker-gpu")["GATE_DEVICE"] == "cuda"
    assert SERVICES["worker-gpu"]["build"]["args"] == {"DEVICE": "cuda"}
    assert compose.load({"CPU_WORKERS": "0"})["services"]["worker-cpu"]["deploy"]["replicas"] == "0"
