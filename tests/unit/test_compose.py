"""The Compose file names only commands, settings and files that exist."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import yaml

from gate.access.loopback import listens_on_loopback
from gate.cli.app import COMMAND_GROUP
from gate.cli.app import app as commands
from gate.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())


def test_every_command_is_one_of_emgate() -> None:
    known = {c.callback.__name__ for c in commands.registered_commands if c.callback}
    known |= {entry.name for entry in entry_points(group=COMMAND_GROUP)}
    used = [s["command"] for s in COMPOSE["services"].values() if "command" in s]
    assert used
    for command in used:
        assert command[0] == "emgate"
        assert command[1] in known


def test_what_listens_to_others_says_how_the_first_key_is_made() -> None:
    text = (REPOSITORY / "docker-compose.yml").read_text()
    hosts = [
        service["command"][service["command"].index("--host") + 1]
        for service in COMPOSE["services"].values()
        if "--host" in service.get("command", [])
    ]
    assert hosts
    if not all(listens_on_loopback(host) for host in hosts):
        assert "docker compose run --rm api emgate keys create" in text


def test_every_variable_is_a_setting() -> None:
    known = {f"GATE_{name.upper()}" for name in Settings.model_fields}
    for service in COMPOSE["services"].values():
        assert set(service.get("environment", {})) <= known


def test_every_file_that_is_built_from_exists() -> None:
    for service in COMPOSE["services"].values():
        if "build" in service:
            assert (REPOSITORY / service["build"]["dockerfile"]).is_file()


def test_every_named_volume_is_declared() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source.startswith(".") or source in COMPOSE["volumes"]
