"""The key with which Prometheus reads /metrics is made once, and again when it opens nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.compose import scrape_key
from gate.access.keys import parse_key
from gate.access.scopes import Scope
from gate.settings import settings
from gate.store.database import open_database
from gate.store.keys import KeyStore

NOW = datetime.now(UTC)


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(open_database(f"sqlite:///{tmp_path / 'gate.db'}"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "emgate-key"


def test_a_key_that_only_reads_is_made_once(store: KeyStore, file: Path) -> None:
    assert scrape_key.ensure(store, file, NOW)
    before = file.read_text()
    assert not scrape_key.ensure(store, file, NOW)
    assert file.read_text() == before
    (key,) = store.all()
    assert key.scopes == (Scope.READ,)
    assert key.expires_at is None
    assert file.stat().st_mode & 0o777 == scrape_key.MODE


@pytest.mark.parametrize("content", ["", "no key", "emg_" + "0" * 12 + "_" + "0" * 64])
def test_what_opens_nothing_is_replaced(store: KeyStore, file: Path, content: str) -> None:
    file.write_text(content)
    assert scrape_key.ensure(store, file, NOW)
    assert scrape_key.opens(store, file, NOW)


def test_a_revoked_key_is_replaced(store: KeyStore, file: Path) -> None:
    scrape_key.ensure(store, file, NOW)
    presented = parse_key(file.read_text())
    assert presented
    store.revoke(presented.id, "test")
    assert scrape_key.ensure(store, file, NOW)
    assert parse_key(file.read_text()) != presented


def test_the_key_is_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    current = settings().model_copy(update={"database_url": url})
    monkeypatch.setattr(scrape_key, "settings", lambda: current)
    file = tmp_path / "emgate-key"
    assert scrape_key.main([str(file)]) == 0
    said = capsys.readouterr()
    assert f"the key 'prometheus' in {file} was made" in said.out
    assert file.read_text() not in said.out + said.err
