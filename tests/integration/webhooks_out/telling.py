"""A gate without engine or API: a record that tells, and its senders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from ipaddress import IPv4Network

from sqlalchemy import text
from unit.builders import DIGESTS, evidence, measurement, policy

from gate.hooks.config import Hooks, load_hooks
from gate.hooks.outbox import Outbox
from gate.policy import Condition
from gate.settings import Settings
from gate.store.database import open_database
from gate.store.deliveries import Delivery
from gate.store.submissions import SubmissionRecord
from gate.submission import SubmissionRequest
from gate.verdict import decide
from workers.notify.delivering import Notifier, notifier_of

VERDICT = decide(
    policy(Condition(check="a", at_most=0.2)), evidence(measurement("a", 0.3, 0.4)), DIGESTS
)  # fmt: skip
LOOPBACK = [IPv4Network("127.0.0.0/8")]
ALL = ["submission.state_changed", "verdict.created"]


class Gate:
    """A gate without engine or API: a record that tells, and a notifier."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.hooks: Hooks = load_hooks(settings.hooks_file)
        self.database = open_database(settings.database)
        self.submissions = SubmissionRecord(self.database, Outbox.of(self.hooks))
        self.notifier: Notifier = notifier_of(settings, self.database)

    def decide_one(self) -> str:
        made = self.submissions.create(SubmissionRequest(checkpoint="/c"), "api")
        assert self.submissions.conclude(made.id, VERDICT)
        return made.id

    def log(self) -> list[Delivery]:
        """Deliveries, oldest first."""
        return self.notifier.record.listed(100)[::-1]

    def execute(self, statement: str) -> None:
        with self.database.begin() as connection:
            connection.execute(text(statement))


DELIVER = """
import sys
from gate.settings import settings
from gate.store.database import open_database
from workers.notify.delivering import notifier_of
print("ready", flush=True)
sys.stdin.readline()
notifier_of(settings(), open_database(settings().database)).deliver_due()
"""


def sender_process(settings: Settings) -> subprocess.Popen[str]:
    """A sender in a process of its own; it starts when it gets a line."""
    changed = settings.model_dump(mode="json", exclude_unset=True)
    environment = {
        f"GATE_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in changed.items()
    }
    process = subprocess.Popen(
        [sys.executable, "-c", DELIVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process
