"""Where the gate is and who asks: ``GATE_URL`` and ``GATE_API_KEY``."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ClientSettings(BaseSettings):
    """Settings of commands that talk to the API; apart from the service's, so that they load fast.

    The key is a secret string, so that no message and no traceback shows it.
    """

    model_config = SettingsConfigDict(env_prefix="GATE_", extra="ignore")

    url: str = Field(
        default="http://127.0.0.1:8000",
        pattern=r"^https?://[^/]",
        description="address of the API",
    )
    api_key: SecretStr | None = Field(default=None, description="sent as Bearer token")
