"""The least that a service can do: a FastAPI endpoint that inserts one row in the same database.

Served by uvicorn with the settings of ``emgate serve``: ``python tests/bench/bare_app.py``.
"""

from __future__ import annotations

import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import Column, DateTime, MetaData, String, Table, Text

from gate.settings import settings
from gate.store.database import connect

ROWS = Table(
    "bench_rows",
    MetaData(),
    Column("id", String, primary_key=True),
    Column("checkpoint", Text),
    Column("base", Text),
    Column("policy", String),
    Column("created_at", DateTime(timezone=True)),
)


class Wanted(BaseModel):
    """The same body as a submission's."""

    checkpoint: str
    base: str
    policy: str


def bare_app() -> FastAPI:
    engine = connect(settings().database)
    ROWS.metadata.create_all(engine)
    app = FastAPI()

    @app.post("/rows", status_code=202)
    def create(wanted: Wanted) -> dict[str, str]:
        row = {"id": uuid.uuid4().hex, "created_at": datetime.now(UTC), **wanted.model_dump()}
        with engine.begin() as connection:
            connection.execute(ROWS.insert(), row)
        return {"id": row["id"]}

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


if __name__ == "__main__":
    uvicorn.run(bare_app(), host=settings().api_host, port=settings().api_port, log_level="info")
