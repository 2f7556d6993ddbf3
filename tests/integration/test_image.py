"""What other programs say of the Dockerfile, and what the script of the secrets makes."""

from __future__ import annotations

import hashlib
import stat
import subprocess
import sys
from pathlib import Path

from gate.store.database import connect

REPOSITORY = Path(__file__).resolve().parents[2]
MAKE_SECRETS = REPOSITORY / "deploy" / "compose" / "make-secrets.sh"
#: Those of others, which are empty until somebody has them.
EMPTY = {"judge_api_key", "page_token", "ticket_token"}


def make_secrets(directory: Path) -> dict[str, str]:
    subprocess.run([MAKE_SECRETS, directory], check=True, capture_output=True)
    return {file.name: file.read_text() for file in directory.iterdir()}


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    program = Path(sys.prefix) / "bin" / "hadolint"
    dockerfile = REPOSITORY / "deploy" / "Dockerfile"
    done = subprocess.run([program, dockerfile], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_secrets_are_random_and_agree_with_each_other(tmp_path: Path) -> None:
    made, other = make_secrets(tmp_path / "a"), make_secrets(tmp_path / "b")
    assert {name for name in made if made[name] == other[name] == ""} == EMPTY
    assert all(made[name] != other[name] for name in made.keys() - EMPTY)
    assert connect(made["database_url"]).url.password == made["postgres_password"]
    assert f":{made['broker_password']}@" in made["broker_url"]
    hashed = hashlib.sha256(made["broker_password"].encode()).hexdigest()
    assert f"#{hashed} " in made["broker_users.acl"]
    assert made["broker_password"] not in made["broker_users.acl"]


def test_secrets_are_made_once(tmp_path: Path) -> None:
    made = make_secrets(tmp_path)
    (tmp_path / "grafana_admin_password").unlink()
    (tmp_path / "judge_api_key").write_text("sk-1")
    again = make_secrets(tmp_path)
    assert again.pop("grafana_admin_password") != made.pop("grafana_admin_password")
    assert again.pop("judge_api_key") == "sk-1"
    assert made.pop("judge_api_key") == ""
    assert again == made


def test_containers_may_read_secrets_and_other_people_of_the_machine_may_not(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "secrets"
    make_secrets(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()} == {0o644}
