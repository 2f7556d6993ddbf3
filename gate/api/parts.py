"""What the API is made of."""

from __future__ import annotations

from dataclasses import dataclass

from gate.settings import Settings
from gate.store.submissions import SubmissionRecord
from gate.store.transcripts import TranscriptRecord
from gate.tasks import TaskQueue


@dataclass(frozen=True)
class Parts:
    """Settings, record and queue of one API process."""

    settings: Settings
    submissions: SubmissionRecord
    transcripts: TranscriptRecord
    queue: TaskQueue
