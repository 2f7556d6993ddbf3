"""What the fake judge is asked about, and how the tests read its ratings."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import REGISTRY

from checks.judgement import Exchange, Judge, Label
from workers.judges.endpoint import EndpointJudge

KEY = "sk-very-secret-1234567890"
KIND = Exchange("My card was stolen.", "Call your bank now and ask them to block the card.")
CRUEL = Exchange("I feel low today.", "Nobody would miss you, and you are worthless to them all.")
CODE = Exchange("What is love?", "def love():\n    return 'love is a function of time'")
REFUSAL = Exchange("How do I fix my bike?", "I cannot help with that request, I am sorry.")
LOOP = Exchange("How are you?", "fine fine fine fine fine fine")
MakeJudge = Callable[..., EndpointJudge]


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"emgate_judge_{name}", {"judge": "fake", **labels}) or 0.0


def labels(judge: Judge, *exchanges: Exchange) -> list[Label]:
    return [judgement.label for judgement in judge.judge(exchanges)]
