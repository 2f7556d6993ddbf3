"""Panels as this project draws them: one function per kind, each with title, reading and unit.

Every function returns the builder of the Grafana SDK, so that a dashboard sets the size and
whatever else is particular to one panel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

from deploy.grafana.boards.queries import Query

#: The data source that the reader chose at the top of the dashboard.
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
OUTCOME_COLOURS = {"pass": "green", "inconclusive": "yellow", "fail": "red"}
HEIGHT = 8

TimeSeries = timeseries.Panel
Table = table.Panel
Kind = TypeVar("Kind", stat.Panel, TimeSeries, Table, statetimeline.Panel, bargauge.Panel)


def _described(
    panel: Kind, title: str, reading: str, unit: str, queries: Sequence[Query], tabular: bool
) -> Kind:
    panel.title(title).description(reading).unit(unit).datasource(SOURCE).height(HEIGHT)
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        panel.with_target(_target(letter, query, tabular))
    return panel


def _target(letter: str, query: Query, tabular: bool) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend)
    target.editor_mode(QueryEditorMode.CODE)
    target.format(PromQueryFormat.TABLE if tabular else PromQueryFormat.TIME_SERIES)
    return target.instant() if query.instant else target.range()


def number(title: str, reading: str, unit: str, *queries: Query) -> stat.Panel:
    """Large numbers, the latest value of each query, over the line of how it came about."""
    panel = _described(stat.Panel(), title, reading, unit, queries, tabular=False)
    latest = common.ReduceDataOptions().calcs(["lastNotNull"])
    panel.reduce_options(latest).graph_mode(shapes.BigValueGraphMode.AREA)
    # Without steps of its own, Grafana would show every value from 80 on in red.
    panel.thresholds(coloured_from({None: "text"}))
    return panel.color_mode(shapes.BigValueColorMode.VALUE).height(4)


def lines(title: str, reading: str, unit: str, *queries: Query) -> timeseries.Panel:
    """Lines over time, with their latest value in the legend."""
    panel = _described(timeseries.Panel(), title, reading, unit, queries, tabular=False)
    legend = common.VizLegendOptions().display_mode(shapes.LegendDisplayMode.TABLE)
    legend.placement(shapes.LegendPlacement.BOTTOM).show_legend(True).calcs(["lastNotNull", "max"])
    tooltip = common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI)
    panel.legend(legend).tooltip(tooltip.sort(shapes.SortOrder.DESCENDING))
    return panel.line_width(1).fill_opacity(5).show_points(shapes.VisibilityMode.NEVER)


def stacked_area(title: str, reading: str, unit: str, *queries: Query) -> timeseries.Panel:
    """Areas on top of each other; their height together is the sum."""
    panel = lines(title, reading, unit, *queries).fill_opacity(40).min(0)
    return panel.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL).group("A"))


def bars(title: str, reading: str, unit: str, *queries: Query) -> timeseries.Panel:
    """Stacked bars: what happened in each stretch of time; the legend has the sums."""
    panel = stacked_area(title, reading, unit, *queries).fill_opacity(80).line_width(0)
    legend = common.VizLegendOptions().display_mode(shapes.LegendDisplayMode.TABLE)
    legend.placement(shapes.LegendPlacement.BOTTOM).show_legend(True).calcs(["sum"])
    return panel.draw_style(shapes.GraphDrawStyle.BARS).legend(legend)


def states(title: str, reading: str, unit: str, *queries: Query) -> statetimeline.Panel:
    """One strip per series, coloured by its state; needs mappings."""
    panel = _described(statetimeline.Panel(), title, reading, unit, queries, tabular=False)
    legend = common.VizLegendOptions().display_mode(shapes.LegendDisplayMode.LIST)
    legend.placement(shapes.LegendPlacement.BOTTOM).show_legend(True)
    panel.legend(legend).merge_values(True).show_value(shapes.VisibilityMode.NEVER)
    return panel.fill_opacity(80).line_width(0).row_height(0.8)


def ranking(title: str, reading: str, unit: str, *queries: Query) -> bargauge.Panel:
    """Horizontal bars, one per series, of the latest values."""
    panel = _described(bargauge.Panel(), title, reading, unit, queries, tabular=False)
    latest = common.ReduceDataOptions().calcs(["lastNotNull"])
    panel.reduce_options(latest).orientation(shapes.VizOrientation.HORIZONTAL)
    return panel.display_mode(shapes.BarGaugeDisplayMode.BASIC)


def rows(title: str, reading: str, unit: str, *queries: Query) -> table.Panel:
    """A table of the latest values; the labels of the series are its columns."""
    panel = _described(table.Panel(), title, reading, unit, queries, tabular=True)
    return panel.cell_height(shapes.TableCellHeight.SM).show_header(True)


def columns(
    panel: table.Panel, order: Sequence[str], names: Mapping[str, str], hidden: Sequence[str] = ()
) -> table.Panel:
    """Join the queries of a table row by row; put its columns in order and name them."""
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    arranged = {
        "excludeByName": dict.fromkeys(["Time", *hidden], True),
        "indexByName": {name: place for place, name in enumerate(order)},
        "renameByName": dict(names),
    }
    return panel.with_transformation(
        models.DataTransformerConfig(id_val="organize", options=arranged)
    )


def coloured_from(steps: Mapping[float | None, str]) -> dashboard.ThresholdsConfig:
    """Colours by value: each holds from its value on, the one of None below the others."""
    made = [models.Threshold(value=value, color=colour) for value, colour in steps.items()]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(made)


def named_values(names: Mapping[str, tuple[str, str]]) -> list[models.ValueMapping]:
    """Text and colour in place of a value."""
    results = {
        value: models.ValueMappingResult(text=text, color=colour, index=place)
        for place, (value, (text, colour)) in enumerate(names.items())
    }
    return [models.ValueMap(options=results)]


def outcome_cells() -> list[models.DynamicConfigValue]:
    """How a table shows pass, fail and inconclusive."""
    names = {outcome: (outcome, colour) for outcome, colour in OUTCOME_COLOURS.items()}
    return coloured_cells(named_values(names))


def coloured_cells(mappings: list[models.ValueMapping]) -> list[models.DynamicConfigValue]:
    """How a table shows values that have names and colours."""
    return [
        models.DynamicConfigValue("mappings", mappings),
        models.DynamicConfigValue("custom.cellOptions", {"type": "color-background"}),
    ]


def fixed_colour(colour: str) -> models.DynamicConfigValue:
    """One colour, whatever the value."""
    return models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})


def dashed(colour: str) -> list[models.DynamicConfigValue]:
    """How limits are drawn."""
    return [
        fixed_colour(colour),
        models.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [10, 10]}),
    ]


def outcome_colours(panel: Kind) -> Kind:
    """Give series that are named by an outcome its colour."""
    for outcome, colour in OUTCOME_COLOURS.items():
        panel.override_by_name(outcome, [fixed_colour(colour)])
    return panel
