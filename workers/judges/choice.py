"""Which judge a run uses."""

from __future__ import annotations

from checks.judgement import Judge
from gate.settings import Settings
from workers.checkpoint.packaged import build_packaged_base
from workers.judges.embedded import EmbeddedJudge


def load_embedded_judge(settings: Settings) -> Judge:
    """The embedded judge on the packaged base, which is built if it is not there yet."""
    return EmbeddedJudge.load(build_packaged_base(settings.base_directory))
