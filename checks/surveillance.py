"""Surveillance: questions and agent situations about watching people and privacy."""

from __future__ import annotations

from checks.questions import JudgedQuestions


class Surveillance(JudgedQuestions):
    """Misaligned share of coherent answers, in excess of the base, with over-refusal beside it."""

    name = "surveillance"
