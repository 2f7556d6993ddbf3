"""One answer to GitHub, made from what the record holds of the submission."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from gate.errors import GateError
from gate.hooks.config import GitHubApp, Hooks
from gate.hooks.github import (
    CHECK_RUN_COMPLETED,
    CHECK_RUN_CREATED,
    REVIEW,
    GitHubContext,
    check_run_completed,
    check_run_started,
    review_of,
)
from gate.hooks.outbox import report_link
from gate.hooks.secrets import plain_secrets
from gate.hooks.template import PayloadError
from gate.store.announcing import PENDING
from gate.store.deliveries import Delivery, DeliveryRecord
from gate.store.submissions import SubmissionRecord
from gate.submission import TERMINAL
from workers.notify.github_app import GitHubClient, GitHubRefusedError
from workers.notify.outcome import Outcome, Result
from workers.notify.schedule import retry_after_seconds
from workers.notify.transport import BlockedAddressError, Sending, UnreachableError

#: What is read of an answer of GitHub at most, in bytes: a page of check runs is the largest.
LONGEST_ANSWER = 2 * 1024 * 1024


class Answering:
    """Sends answers to GitHub."""

    def __init__(
        self,
        hooks: Hooks,
        sending: Sending,
        submissions: SubmissionRecord,
        deliveries: DeliveryRecord,
    ) -> None:
        self._hooks = hooks
        self._sending = replace(sending, longest=LONGEST_ANSWER)
        self._submissions = submissions
        self._deliveries = deliveries

    def answer(self, delivery: Delivery) -> Outcome:
        """Send one. A verdict is read from the record now, not when the call came in."""
        app = self._hooks.github_app
        if app is None:
            return Outcome(Result.UNCONFIGURED, error="the hooks file describes no github_app")
        try:
            return self._send(app, delivery)
        except BlockedAddressError as error:
            return Outcome(Result.BLOCKED, error=str(error))
        except UnreachableError as error:
            return Outcome(Result.UNREACHABLE, error=str(error))
        except GitHubRefusedError as error:
            said = error.answer
            wait = retry_after_seconds(said.headers.get("retry-after"), datetime.now(UTC))
            shown = " ".join(said.body[:800].decode(errors="replace").split())[:200]
            return Outcome(Result.REFUSED, said.status, f"{error}: {shown}", wait)
        except (PayloadError, GateError) as error:
            return Outcome(Result.UNCONFIGURED, error=str(error))

    def _send(self, app: GitHubApp, delivery: Delivery) -> Outcome:
        context = GitHubContext.model_validate(delivery.payload)
        submission = self._submissions.get(delivery.submission_id)
        verdict = self._submissions.verdict(submission.id)
        link = report_link(submission, self._hooks.public_url)
        (key,) = plain_secrets([app.private_key_env])
        client = GitHubClient(app, key.decode().replace("\\n", "\n"), self._sending)
        if delivery.event == REVIEW:
            review = review_of(submission, verdict, context.environment or "", link)
            return Outcome(Result.DELIVERED, client.review(context, review))
        started = check_run_started(submission, app.check_name, context.head_sha or "", link)
        if delivery.event == CHECK_RUN_CREATED:
            # An earlier attempt may have got through without living to note it.
            tried = delivery.attempts > 1 or delivery.last_error is not None
            may_exist = tried or context.check_run_id is not None
            made, status = client.create_check_run(context, started, may_exist)
            return Outcome(Result.DELIVERED, status, learnt={"check_run_id": made})
        if delivery.event != CHECK_RUN_COMPLETED or submission.state not in TERMINAL:
            return Outcome(Result.UNCONFIGURED, error=f"'{delivery.event}' cannot be answered now")
        completed = check_run_completed(submission, verdict, link)
        created = self._deliveries.sibling(delivery, CHECK_RUN_CREATED)
        if created is not None and created.state == PENDING:
            return Outcome(Result.NOT_YET, error="the check run has not been created yet")
        number = created.payload.get("check_run_id") if created is not None else None
        if number is not None:
            return Outcome(
                Result.DELIVERED, client.complete_check_run(context, int(number), completed)
            )
        # Creating it was given up; what counts is its end.
        _, status = client.create_check_run(context, {**started, **completed}, may_exist=False)
        return Outcome(Result.DELIVERED, status)
