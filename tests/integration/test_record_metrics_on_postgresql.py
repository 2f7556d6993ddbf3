"""The metrics of the record on PostgreSQL: some of what is said of them on SQLite."""

from __future__ import annotations

import pytest
from postgresql import PostgreSQL
from unit.test_record_metrics import (  # noqa: F401
    gate,
    test_a_verdict_is_read_once_in_the_life_of_a_process,
    test_every_process_shows_the_same_whenever_it_started,
    test_submissions_are_counted_by_source_and_by_state,
    test_the_latest_verdict_on_a_model_is_shown_with_its_bounds_and_thresholds,
    test_the_oldest_that_waits_is_one_that_a_worker_could_take,
    test_what_can_be_read_is_shown_where_another_part_cannot,
)


@pytest.fixture
def url(postgres: PostgreSQL) -> str:
    """Takes the place of the SQLite file."""
    return postgres.new_database()
