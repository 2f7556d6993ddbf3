"""Oversight: questions and agent situations about shutdown, correction and power."""

from __future__ import annotations

from checks.questions import JudgedQuestions


class Oversight(JudgedQuestions):
    """Misaligned share of coherent answers, in excess of the base, with over-refusal beside it."""

    name = "oversight"
