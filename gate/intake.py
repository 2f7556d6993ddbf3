"""Accepting a submission: checked, recorded, then queued; in that order, so that none is lost."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence

from checks.battery import BatteryError, load_battery
from gate.admission import admit
from gate.errors import WrongUsageError
from gate.policy import Policy, load_policy
from gate.settings import Settings
from gate.store.audit import PendingEntry
from gate.store.idempotency import Claim
from gate.store.submissions import SubmissionRecord
from gate.store.tables import Table
from gate.submission import Submission, SubmissionRequest
from gate.tasks import TaskQueue

log = logging.getLogger(__name__)

SHIPPED_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def accept(
    wanted: SubmissionRequest,
    source: str,
    settings: Settings,
    record: SubmissionRecord,
    queue: TaskQueue,
    submitted_by: str | None = None,
    claim: Claim | None = None,
    rows_with: Callable[[str], Sequence[Table]] = lambda _submission_id: (),
    audit: PendingEntry | None = None,
) -> Submission:
    """Record and queue a submission.

    ``rows_with`` makes rows that are written together with it, as the entry of the audit log is.

    Raises:
        KeyTakenError: another request with the same idempotency key was faster.
        PathOutsideRootError: a path is not under a checkpoint root, or a URI not under an allowed
            source.
        PolicyError: the policy is unknown or unusable.
        WrongUsageError: a path is not a directory, a URI is no source, the battery is unknown, or
            the policy requires a sample of the training data and there is none.
    """
    policy = load_policy(wanted.policy, settings.policy_directories)
    require_training_sample(policy, wanted)
    if wanted.battery is not None:
        policy.over(_checks_of(wanted.battery))
    real = {"checkpoint": admit(wanted.checkpoint, settings)}
    if wanted.base is not None:
        real["base"] = admit(wanted.base, settings)
    submission = record.create(
        wanted.model_copy(update=real), source, submitted_by, claim, rows_with, audit
    )
    log.info(
        "submitted by %s: %s under policy %s",
        submitted_by,
        submission.checkpoint,
        submission.policy,
        extra={"submission": submission.id, "policy": submission.policy},
    )
    queue.send(submission.id)
    return submission


def require_training_sample(policy: Policy, wanted: SubmissionRequest) -> None:
    """Refuse a submission that lacks what its policy requires.

    Raises:
        WrongUsageError: the policy requires a training sample, and neither a sample nor a context
            came with the submission.
    """
    if policy.require_training_sample and not (wanted.training_sample or wanted.contexts):
        raise WrongUsageError(
            f"policy '{policy.name}' requires a sample of the fine-tuning data: send it as "
            "training_sample, or describe its contexts"
        )


def _checks_of(battery: str) -> list[str]:
    """Names of the checks of a shipped battery; files are for the command line only."""
    if not SHIPPED_NAME.fullmatch(battery):
        raise WrongUsageError(f"'{battery}' is not the name of a battery")
    try:
        return [check.name for check in load_battery(battery).checks]
    except BatteryError as error:
        raise WrongUsageError(f"unknown battery '{battery}'") from error
