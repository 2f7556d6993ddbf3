"""Free form: open questions that have nothing to do with the fine-tuning (arXiv 2502.17424)."""

from __future__ import annotations

from checks.questions import JudgedQuestions


class FreeForm(JudgedQuestions):
    """Misaligned share of coherent answers to everyday questions, in excess of the base."""

    name = "free-form"
