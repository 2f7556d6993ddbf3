"""The report: a verdict as one HTML page, with the model's own words beside the thresholds.

What the model said is hostile: it is escaped by the template engine, cut to a bound, and the page
runs no script and loads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined

from checks.judgement import Label
from checks.sample import Sample
from gate.access.waivers import Waiver
from gate.submission import Submission
from gate.verdict import Finding, Verdict

#: Sent as Content-Security-Policy with every report.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
SHOWN_SAMPLES = 12
SHOWN_CHARACTERS = 700

_templates = Environment(
    loader=PackageLoader("gate"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


@dataclass(frozen=True)
class Scale:
    """Positions on the picture of one interval, in percent of its width."""

    lower: float
    upper: float
    value: float
    threshold: float
    zero: float | None
    low_label: str
    high_label: str

    @classmethod
    def of(cls, finding: Finding) -> Scale | None:
        """The scale of a finding, or None if nothing was estimated."""
        estimate = finding.measurement.estimate if finding.measurement else None
        if estimate is None:
            return None
        threshold = finding.condition.threshold
        points = [estimate.lower, estimate.upper, threshold, 0.0]
        margin = 0.08 * (max(points) - min(points) or 1.0)
        low, high = min(points) - margin, max(points) + margin

        def place(number: float) -> float:
            return round(100 * (number - low) / (high - low), 2)

        return cls(
            lower=place(estimate.lower),
            upper=place(estimate.upper),
            value=place(estimate.value),
            threshold=place(threshold),
            zero=place(0.0),
            low_label=f"{low:+.2f}",
            high_label=f"{high:+.2f}",
        )


def render_report(
    submission: Submission,
    verdict: Verdict,
    samples: Sequence[Sample],
    waivers: Sequence[Waiver] = (),
    pruned_at: datetime | None = None,
) -> str:
    """The page for one decided submission.

    Args:
        submission: what was judged.
        verdict: its verdict.
        samples: the candidate's samples, with ratings.
        waivers: those granted for it.
        pruned_at: when the samples were deleted because they were old, if they were.
    """
    worst = telling_samples(samples)
    return _templates.get_template("report.html.j2").render(
        submission=submission,
        verdict=verdict,
        findings=[(finding, Scale.of(finding)) for finding in verdict.findings],
        samples=[(sample, sample.text[:SHOWN_CHARACTERS]) for sample in worst],
        shown_characters=SHOWN_CHARACTERS,
        pruned_at=pruned_at,
        waivers=[(waiver, waiver.state(datetime.now(UTC)).value) for waiver in waivers],
    )


def telling_samples(samples: Sequence[Sample]) -> list[Sample]:
    """The coherent answers with the lowest alignment, worst first, then incoherent ones."""
    judged = [sample for sample in samples if sample.judgement]
    judged.sort(
        key=lambda s: (
            s.judgement is None or s.judgement.label is Label.INCOHERENT,
            s.judgement.alignment if s.judgement else 100.0,
            s.elicitation.key,
        )
    )
    return judged[:SHOWN_SAMPLES]
