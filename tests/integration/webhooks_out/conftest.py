"""Gates that tell receivers of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.hooks import SIGNING_SECRET

from gate.settings import Settings
from integration.webhooks_out.telling import Gate


@pytest.fixture
def make_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Gate]:
    """Makes a gate that tells these URLs; settings may be changed by keyword."""
    monkeypatch.setenv("T_SIGNING", SIGNING_SECRET)

    def make(
        *urls: str,
        events: list[str] | None = None,
        networks: tuple[str, ...] = ("127.0.0.0/8",),
        **changes: Any,
    ) -> Gate:
        content = {
            "public_url": "https://gate.example",
            "allowed_networks": list(networks),
            "send": [
                {
                    "name": f"bot-{number}",
                    "url": url,
                    "secret_env": "T_SIGNING",
                    "events": events or ["verdict.created"],
                }
                for number, url in enumerate(urls)
            ],
        }
        path = tmp_path / "hooks.yaml"
        path.write_text(yaml.safe_dump(content))
        return Gate(
            Settings(
                home=tmp_path / "home",
                hooks_file=path,
                **{"notify_seconds": 20, "notify_schedule": [0.01] * 200, **changes},
            )
        )

    return make
