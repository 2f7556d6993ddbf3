"""The record on PostgreSQL: all that tests/unit/test_record.py says of it on SQLite."""

from __future__ import annotations

import pytest
from postgresql import PostgreSQL
from unit.test_record import *  # noqa: F403


@pytest.fixture
def url(postgres: PostgreSQL) -> str:
    """Takes the place of the SQLite file."""
    return postgres.new_database()
