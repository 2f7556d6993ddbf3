"""Links from a panel to the pages of the gate."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

# ``raw``: the address keeps its colon and slashes.
_SUBMISSION = "${gate:raw}/v1/submissions/"
_TITLE = "Open the report"
OF_SERIES = f"{_SUBMISSION}${{__field.labels.submission}}/report"
OF_CELL = f"{_SUBMISSION}${{__value.raw}}/report"


def to_report() -> dashboard.DashboardLink:
    """From a series that has the label ``submission`` to that submission's report."""
    return dashboard.DashboardLink(_TITLE).url(OF_SERIES).target_blank(True)


def cells_to_reports() -> list[models.DynamicConfigValue]:
    """From a cell that has the id of a submission to its report."""
    link = {"title": _TITLE, "url": OF_CELL, "targetBlank": True}
    return [models.DynamicConfigValue("links", [link])]
