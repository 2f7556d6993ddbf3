"""Old samples are deleted, on SQLite and PostgreSQL; verdicts and what is needed stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine, text
from unit.builders import answer
from unit.test_record import VERDICT, OneJudge

from checks.judgement import Judgement
from gate.policy import load_policy
from gate.report import render_report
from gate.settings import Settings
from gate.store.database import open_database
from gate.store.retention import Pruned, prune
from gate.store.submissions import SubmissionRecord
from gate.store.transcripts import BASELINE, TranscriptRecord
from gate.submission import State, SubmissionRequest

NOTHING = Pruned(0, 0)


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

    def add(self, days_ago: float | None, policy: str = "default") -> tuple[str, str, str]:
        """A submission with two samples of its own and one of the baseline; None: it runs."""
        request = SubmissionRequest(checkpoint="/c", base="/b", policy=policy)
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
