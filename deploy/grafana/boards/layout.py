"""How panels become a dashboard: rows of panels, numbered in reading order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.boards.panels import SOURCE

TAG = "em-gate"
COLUMNS = 24


@dataclass(frozen=True)
class Row:
    """A heading with the panels under it; each line of panels is as wide as the dashboard."""

    title: str
    panels: Sequence[Builder[models.Panel]]


class Event(models.AnnotationQuery):
    """An annotation made from a query: one mark for each step at which a series is above zero.

    With ``value_is_time`` the mark stands at the time that the value says, in milliseconds.
    ``title`` and ``text`` may use ``{{label}}``.
    """

    def __init__(
        self, name: str, colour: str, expr: str, title: str, text: str, value_is_time: bool = False
    ) -> None:
        super().__init__(name=name, datasource=SOURCE, icon_color=colour, expr=expr)
        # What the Prometheus data source reads beside the fields that all annotations have.
        self.own: dict[str, object] = {
            "step": "60s",
            "titleFormat": title,
            "textFormat": text,
            "useValueForTime": value_is_time,
        }

    def to_json(self) -> dict[str, object]:
        """All fields, as Grafana stores them."""
        return {**super().to_json(), **self.own}


def board(uid: str, title: str, description: str, span: str, refresh: str) -> dashboard.Dashboard:
    """An empty dashboard that shows the last ``span`` and links to the others of this project."""
    made = dashboard.Dashboard(title).uid(uid).description(description).tags([TAG])
    made.time(f"now-{span}", "now").refresh(refresh).timezone("browser").readonly()
    made.tooltip(models.DashboardCursorSync.CROSSHAIR)
    others = dashboard.DashboardLink("em-gate dashboards").tags([TAG]).as_dropdown(False)
    others.type(models.DashboardLinkType.DASHBOARDS).include_vars(False).keep_time(False)
    return made.link(others)


def assemble(
    made: dashboard.Dashboard, rows: Iterable[Row], events: Sequence[Event] = ()
) -> models.Dashboard:
    """Put the rows onto the dashboard and number the panels from 1."""
    for row in rows:
        made.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            made.with_panel(panel)
    built = made.build()
    panels: list[Any] = built.panels or []
    for number, panel in enumerate(panels, start=1):
        panel.id_val = number
    built.annotations.list_val = list(events)
    return built
