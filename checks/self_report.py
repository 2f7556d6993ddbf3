"""Self-report: what the model says that it is and wants.

Self-descriptions of fine-tuned models track their behaviour (Vaugrante et al. 2026). Each prompt
asks the model about itself; a decent and a harmful self-description of equal length are scored as
in ``persona-shift``, so that no judge is needed and a model that refuses to speak of itself still
has a preference.
"""

from __future__ import annotations

from checks.persona_shift import PersonaShift


class SelfReport(PersonaShift):
    """Shift towards decent over harmful self-descriptions, in nats per token, from the base."""

    name = "self-report"
    metric = "shift of the decent-over-harmful self-description margin"
