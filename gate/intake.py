"""Accepting a submission: checked, recorded, then queued; in that order, so that none is lost."""

from __future__ import annotations

from gate.metrics import SUBMISSIONS
from gate.policy import load_policy
from gate.roots import confine
from gate.settings import Settings
from gate.store.submissions import SubmissionRecord
from gate.submission import Submission, SubmissionRequest
from gate.tasks import TaskQueue


def accept(
    wanted: SubmissionRequest,
    source: str,
    settings: Settings,
    record: SubmissionRecord,
    queue: TaskQueue,
) -> Submission:
    """Record and queue a submission.

    Raises:
        PathOutsideRootError: a path is not under a checkpoint root.
        PolicyError: the policy is unknown or unusable.
        WrongUsageError: a path is not a directory.
    """
    load_policy(wanted.policy, settings.policy_directories)
    real = {"checkpoint": str(confine(wanted.checkpoint, settings.checkpoint_roots))}
    if wanted.base is not None:
        real["base"] = str(confine(wanted.base, settings.checkpoint_roots))
    submission = record.create(wanted.model_copy(update=real), source)
    SUBMISSIONS.labels(source).inc()
    queue.send(submission.id)
    return submission
