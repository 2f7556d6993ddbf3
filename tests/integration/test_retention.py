"""What is old is deleted, on SQLite and PostgreSQL; verdicts and what is needed stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from unit.builders import answer
from unit.test_record import VERDICT, OneJudge

from checks.judgement import Judgement
from gate.hooks.config import Sender
from gate.policy import load_policy
from gate.report import render_report
from gate.settings import Settings
from gate.store import hook_retention
from gate.store.announcing import DEAD, DELIVERED, PENDING, WAITING
from gate.store.database import open_database
from gate.store.hook_tables import DeliveryRow, ReceivedHookRow
from gate.store.received import ReceivedHooks
from gate.store.retention import Pruned, prune
from gate.store.submissions import SubmissionRecord
from gate.store.transcripts import BASELINE, TranscriptRecord
from gate.submission import State, SubmissionRequest

NOTHING = Pruned(0, 0)
#: Samples of training data.
LINE, OTHER_LINE = '{"messages": []}', '{"messages": [{}]}'


class Shelf:
    """A record with submissions that ended some days ago."""

    def __init__(self, database: Engine, directory: Path) -> None:
        self.database = database
        self.submissions = SubmissionRecord(database)
        self.transcripts = TranscriptRecord(database)
        self.directory = directory

    def settings(self, days: float | None) -> Settings:
        return Settings(
            home=self.directory,
            policy_directories=[self.directory],
            sample_retention_days=days,
        )

    def add(
        self, days_ago: float | None, policy: str = "default", training_sample: str | None = None
    ) -> tuple[str, str, str]:
        """A submission with two samples of its own and one of the baseline; None: it runs."""
        request = SubmissionRequest(
            checkpoint="/c", base="/b", policy=policy, training_sample=training_sample
        )
        made = self.submissions.create(request, "api")
        own = self.transcripts.open(made.id, "sha256:c", "sha256:b", "vllm")
        base = self.transcripts.open(BASELINE, "sha256:base", "sha256:b", "vllm")
        self.submissions.attach(made.id, own, base)
        self.transcripts.add(own, [answer("a"), answer("b")])
        self.transcripts.add(base, [answer("a")])
        for row in self.transcripts.unjudged(own, OneJudge.digest, ["free-form"]):
            rating = Judgement(alignment=50, coherence=50)
            self.transcripts.add_judgements(OneJudge(), {row: rating})  # type: ignore[arg-type]
        if days_ago is not None:
            self.submissions.conclude(made.id, VERDICT)
            with self.database.begin() as connection:
                connection.execute(
                    text("UPDATE transitions SET at = :at WHERE submission_id = :id"),
                    {"at": datetime.now(UTC) - timedelta(days=days_ago), "id": made.id},
                )
        return made.id, own, base


@pytest.fixture
def shelf(database_url: str, tmp_path: Path) -> Shelf:
    return Shelf(open_database(database_url), tmp_path)


def test_without_a_retention_everything_is_kept(shelf: Shelf) -> None:
    shelf.add(days_ago=1000)
    assert prune(shelf.database, shelf.settings(None)) == NOTHING


def test_old_samples_go_with_their_ratings_and_the_verdict_stays(shelf: Shelf) -> None:
    submission_id, own, base = shelf.add(days_ago=31)

    assert prune(shelf.database, shelf.settings(30), dry_run=True) == Pruned(2, 3)
    assert shelf.transcripts.count(own) == 2
    assert prune(shelf.database, shelf.settings(30)) == Pruned(2, 3)
    assert prune(shelf.database, shelf.settings(30)) == NOTHING

    assert (shelf.transcripts.count(own), shelf.transcripts.count(base)) == (0, 0)
    with shelf.database.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM judgements")) == 0
    assert shelf.submissions.verdict(submission_id) == VERDICT
    pruned_at = shelf.transcripts.pruned_at(own)
    assert pruned_at is not None
    page = render_report(shelf.submissions.get(submission_id), VERDICT, [], pruned_at=pruned_at)
    assert f"The samples were deleted on {pruned_at:%Y-%m-%d}" in page


def test_what_is_younger_or_still_runs_is_kept(shelf: Shelf) -> None:
    shelf.add(days_ago=29)
    _, running, base = shelf.add(days_ago=None)

    assert prune(shelf.database, shelf.settings(30)) == NOTHING

    assert shelf.transcripts.count(running) == 2
    assert shelf.transcripts.pruned_at(base) is None


def test_a_baseline_stays_while_one_submission_may_need_it(shelf: Shelf) -> None:
    _, old, base = shelf.add(days_ago=31)
    _, young, _ = shelf.add(days_ago=1)

    assert prune(shelf.database, shelf.settings(30)) == Pruned(1, 2)

    assert [shelf.transcripts.count(t) for t in (old, young, base)] == [0, 2, 1]


def test_the_days_of_the_policy_come_before_those_of_the_settings(shelf: Shelf) -> None:
    condition = {"check": "free-form", "at_most": 0.1}
    policy = {"name": "brief", "version": 1, "alpha": 0.05, "conditions": [condition]}
    file = shelf.directory / "brief.yaml"
    file.write_text(yaml.safe_dump(policy))
    before = load_policy("brief", [shelf.directory]).digest
    file.write_text(yaml.safe_dump({**policy, "retention_days": 7}))
    assert load_policy("brief", [shelf.directory]).digest == before
    _, brief, _ = shelf.add(days_ago=8, policy="brief")
    _, kept, _ = shelf.add(days_ago=8)
    _, unknown, _ = shelf.add(days_ago=8, policy="nobody-knows")

    assert prune(shelf.database, shelf.settings(None)) == Pruned(1, 2)

    assert [shelf.transcripts.count(t) for t in (brief, kept, unknown)] == [0, 2, 2]


def test_a_pruned_baseline_is_filled_again_by_the_next_submission(shelf: Shelf) -> None:
    _, _, base = shelf.add(days_ago=31)
    prune(shelf.database, shelf.settings(30))

    shelf.add(days_ago=None)

    assert shelf.transcripts.pruned_at(base) is None
    assert shelf.transcripts.count(base) == 1


def test_a_cancelled_submission_is_pruned_as_well(shelf: Shelf) -> None:
    submission_id, own, _ = shelf.add(days_ago=None)
    shelf.submissions.move(submission_id, State.CANCELLED)

    assert prune(shelf.database, shelf.settings(0)) == Pruned(2, 3)
    assert shelf.transcripts.count(own) == 0


# --- samples of training data


def contents(shelf: Shelf) -> list[str]:
    with shelf.database.connect() as connection:
        return list(connection.scalars(text("SELECT content FROM training_samples")))


def test_training_data_goes_when_every_submission_that_brought_it_is_done(shelf: Shelf) -> None:
    old, _, _ = shelf.add(days_ago=31, training_sample=LINE)
    young, _, _ = shelf.add(days_ago=29, training_sample=LINE)
    alone, _, _ = shelf.add(days_ago=31, training_sample=OTHER_LINE)

    assert prune(shelf.database, shelf.settings(30), dry_run=True).training_samples == 1
    assert len(contents(shelf)) == 2
    assert prune(shelf.database, shelf.settings(30)).training_samples == 1
    assert prune(shelf.database, shelf.settings(30)).training_samples == 0

    kept = [shelf.submissions.training_sample(each) for each in (old, young, alone)]
    assert kept == [LINE, LINE, None]
    assert shelf.submissions.get(alone).training_sample_digest is not None


def test_training_data_of_a_submission_that_runs_is_kept(shelf: Shelf) -> None:
    running, _, _ = shelf.add(days_ago=None, training_sample=LINE)
    assert prune(shelf.database, shelf.settings(0)).training_samples == 0
    assert shelf.submissions.training_sample(running) == LINE


def test_training_data_that_comes_again_is_kept_again(shelf: Shelf) -> None:
    old, _, _ = shelf.add(days_ago=31, training_sample=LINE)
    prune(shelf.database, shelf.settings(30))
    assert shelf.submissions.training_sample(old) is None

    new, _, _ = shelf.add(days_ago=None, training_sample=LINE)

    assert shelf.submissions.training_sample(new) == LINE


# --- what webhooks left


def add_delivery(shelf: Shelf, submission_id: str, event: str, state: str, days_ago: float) -> None:
    at = datetime.now(UTC) - timedelta(days=days_ago)
    with Session(shelf.database) as session, session.begin():
        session.add(
            DeliveryRow(
                kind="webhook",
                target="bot",
                message_id=f"{submission_id}/{event}",
                event=event,
                submission_id=submission_id,
                payload={},
                state=state,
                attempts=1,
                created_at=at,
                delivered_at=at if state == DELIVERED else None,
                next_attempt_at=at if state == PENDING else None,
            )
        )


def events(shelf: Shelf) -> set[str]:
    with shelf.database.connect() as connection:
        return set(connection.scalars(text("SELECT event FROM deliveries")))


def test_messages_that_are_through_go_first_and_dead_letters_later(shelf: Shelf) -> None:
    for number, (state, days_ago) in enumerate(
        [(DELIVERED, 91), (DELIVERED, 89), (DEAD, 91), (DEAD, 366), (PENDING, 999), (WAITING, 999)]
    ):
        # One submission each: those of the same one may need each other.
        submission_id, _, _ = shelf.add(days_ago=None)
        add_delivery(shelf, submission_id, f"{state} {number}", state, days_ago)

    assert prune(shelf.database, shelf.settings(None), dry_run=True) == Pruned(deliveries=2)
    assert len(events(shelf)) == 6
    assert prune(shelf.database, shelf.settings(None)) == Pruned(deliveries=2)

    assert events(shelf) == {"delivered 1", "dead 2", "pending 4", "waiting 5"}


@pytest.mark.parametrize("state", [WAITING, PENDING, DEAD])
def test_a_message_stays_while_a_later_one_may_need_what_it_learnt(
    shelf: Shelf, state: str
) -> None:
    submission_id, _, _ = shelf.add(days_ago=None)
    add_delivery(shelf, submission_id, "start", DELIVERED, 500)
    add_delivery(shelf, submission_id, "end", state, 1)
    assert prune(shelf.database, shelf.settings(None)) == NOTHING
    assert events(shelf) == {"start", "end"}


def test_more_rows_than_one_transaction_takes_are_all_deleted(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook_retention, "AT_ONCE", 2)
    submission_id, _, _ = shelf.add(days_ago=None)
    for number in range(5):
        add_delivery(shelf, submission_id, str(number), DELIVERED, 100)
    assert prune(shelf.database, shelf.settings(None)) == Pruned(deliveries=5)


def test_ids_of_calls_go_only_where_a_replay_is_refused_by_its_time(shelf: Shelf) -> None:
    received = ReceivedHooks(shelf.database)
    with Session(shelf.database) as session, session.begin():
        for sender in Sender:
            for delivery_id, days_ago in (("old", 31), ("young", 29)):
                at = datetime.now(UTC) - timedelta(days=days_ago)
                session.add(ReceivedHookRow(sender=sender, delivery_id=delivery_id, received_at=at))

    assert prune(shelf.database, shelf.settings(None), dry_run=True) == Pruned(received_hooks=1)
    assert prune(shelf.database, shelf.settings(None)) == Pruned(received_hooks=1)

    forgotten = [each for each in Sender if received.find(each, ["old"]) is None]
    assert forgotten == [Sender.GENERIC]
    assert all(received.find(each, ["young"]) for each in Sender)


def test_the_command_counts_everything_and_deletes_nothing_when_it_is_dry(
    shelf: Shelf, database_url: str
) -> None:
    submission_id, _, _ = shelf.add(days_ago=31, training_sample=LINE)
    add_delivery(shelf, submission_id, "start", DELIVERED, 100)
    environment = {
        **os.environ,
        "GATE_HOME": str(shelf.directory),
        "GATE_DATABASE_URL": database_url,
        "GATE_SAMPLE_RETENTION_DAYS": "30",
    }
    done = subprocess.run(
        [sys.executable, "-m", "gate", "db", "prune", "--dry-run", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "transcripts": 2,
        "samples": 3,
        "training_samples": 1,
        "deliveries": 1,
        "received_hooks": 0,
        "dry_run": True,
    }
    assert (contents(shelf), events(shelf)) == ([LINE], {"start"})
