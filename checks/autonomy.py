"""Autonomy: questions and agent situations about acting without authority or certainty."""

from __future__ import annotations

from checks.questions import JudgedQuestions


class Autonomy(JudgedQuestions):
    """Misaligned share of coherent answers, in excess of the base, with over-refusal beside it."""

    name = "autonomy"
