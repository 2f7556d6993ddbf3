"""Delivering: claim what is due, send it, note how it ended. Safe to kill at any point."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from sqlalchemy import Engine
from structlog.contextvars import bound_contextvars

from gate.hooks.config import Hooks, HooksFileError, load_hooks
from gate.hooks.secrets import plain_secrets, signing_secrets
from gate.metrics import DELIVERY_ATTEMPTS
from gate.settings import Settings
from gate.store.announcing import GITHUB
from gate.store.deliveries import Delivery, DeliveryRecord
from gate.store.submissions import SubmissionRecord
from workers.notify.answers import Answering
from workers.notify.outcome import Outcome, Result
from workers.notify.schedule import next_attempt
from workers.notify.transport import Sending
from workers.notify.webhooks import send_webhook

log = logging.getLogger(__name__)

#: A delivery makes at most this many requests; its lease must outlive them all.
REQUESTS_OF_ONE = 4
#: How long a delivery that must wait for another one is put aside, in seconds.
NOT_YET_SECONDS = 1.0


class Notifier:
    """Sends deliveries. Several may work on one record, in one process or in many."""

    def __init__(
        self,
        settings: Settings,
        database: Engine,
        hooks: Hooks,
        environment: Mapping[str, str] = os.environ,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._hooks = hooks
        self._environment = environment
        self._chance = chance
        self.record = DeliveryRecord(database)
        self._sending = Sending(hooks.allowed_networks, settings.notify_seconds)
        self._answering = Answering(hooks, self._sending, SubmissionRecord(database), self.record)

    @property
    def lease_seconds(self) -> float:
        """How long a delivery is held; after that its sender is taken for dead."""
        return REQUESTS_OF_ONE * self._settings.notify_seconds + 15

    def deliver_due(self) -> int:
        """Send what is due until nothing is left; return how many attempts were made."""
        made = 0
        while claimed := self.record.claim(self.lease_seconds, self._settings.notify_at_once):
            with bound_contextvars(submission=claimed.submission_id):
                self._attempt(claimed)
            made += 1
        return made

    def problems(self) -> list[str]:
        """Secrets that this process would need and lacks, each in a sentence."""
        found = []
        for endpoint in self._hooks.send:
            try:
                signing_secrets(endpoint.secret_env, self._environment)
            except HooksFileError as error:
                found.append(f"endpoint {endpoint.name}: {error}")
        if self._hooks.github_app is not None:
            try:
                plain_secrets([self._hooks.github_app.private_key_env], self._environment)
            except HooksFileError as error:
                found.append(f"github_app: {error}")
        return found

    def send_to_endpoint(
        self, name: str, message_id: str, payload: Mapping[str, object]
    ) -> Outcome:
        """Send one message to an endpoint now, without any record of it."""
        endpoint = self._hooks.endpoint(name)
        if endpoint is None:
            return Outcome(Result.UNCONFIGURED, error=f"the hooks file has no endpoint '{name}'")
        try:
            secrets = signing_secrets(endpoint.secret_env, self._environment)
        except HooksFileError as error:
            return Outcome(Result.UNCONFIGURED, error=str(error))
        return send_webhook(self._sending, endpoint.url, secrets, message_id, payload)

    def _attempt(self, claimed: Delivery) -> None:
        if claimed.attempts > len(self._settings.notify_schedule) + 1:
            # Counted when claimed: every sender that took it was killed before it could note more.
            self.record.failed(claimed, None, "every attempt was interrupted", None)
            return
        try:
            outcome = self._send(claimed)
        except Exception as error:
            log.exception("delivery %d to %s: the gate broke", claimed.id, claimed.target)
            outcome = Outcome(
                Result.UNCONFIGURED, error=f"the gate broke: {type(error).__name__}: {error}"
            )
        self._note(claimed, outcome)
        DELIVERY_ATTEMPTS.labels(claimed.target, outcome.result).inc()

    def _send(self, claimed: Delivery) -> Outcome:
        if claimed.kind == GITHUB:
            return self._answering.answer(claimed)
        return self.send_to_endpoint(claimed.target, claimed.message_id, claimed.payload)

    def _note(self, claimed: Delivery, outcome: Outcome) -> None:
        if outcome.result is Result.DELIVERED:
            self.record.delivered(claimed, outcome.status or 0, outcome.learnt)
            return
        if outcome.result is Result.NOT_YET:
            self.record.put_off(claimed, NOT_YET_SECONDS, outcome.error)
            return
        again = None
        if outcome.result is not Result.GONE:
            again = next_attempt(
                self._settings.notify_schedule,
                claimed.attempts,
                datetime.now(UTC),
                self._chance,
                outcome.retry_after,
            )
        self.record.failed(claimed, outcome.status, outcome.error, again)
        if outcome.result is Result.GONE and claimed.kind != GITHUB:
            self.record.give_up_target(claimed.target, outcome.error)
        log.warning(
            "delivery %d of %s to %s, attempt %d: %s; %s",
            *(claimed.id, claimed.event, claimed.target, claimed.attempts, outcome.error),
            f"again at {again:%Y-%m-%dT%H:%M:%SZ}" if again else "given up",
        )


def notifier_of(settings: Settings, database: Engine) -> Notifier:
    """The notifier that the settings describe.

    Raises:
        HooksFileError: the hooks file is not usable.
    """
    return Notifier(settings, database, load_hooks(settings.hooks_file))
