"""The dashboards are what the code makes, hold to Grafana's schema, and name what exists."""

from __future__ import annotations

import enum
import json
import re
import types
import typing
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana import BOARDS, BUILT_IN, DASHBOARDS, asked_of, filled, used
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard
from series import SERIES, labels_asked_by, labels_of, selectors

from deploy.grafana.boards.__main__ import pages
from deploy.grafana.boards.documentation import table, with_tables
from deploy.grafana.boards.layout import COLUMNS, Event
from deploy.grafana.boards.links import OF_CELL
from deploy.grafana.boards.panels import SOURCE
from deploy.grafana.boards.reading import Asked, Board, panels, queries, rows, variables

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "grafana.md"
UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and name[0] != "_"}
#: Any value will do for a parser.
VALUES = dict.fromkeys(BUILT_IN, "5m") | dict.fromkeys(
    ("policy", "model", "check", "worker"), "any"
)

ALL = [pytest.param(board, id=name) for name, board in BOARDS.items()]
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in panels(board)
]
QUERIES = [
    pytest.param(asked, id=f"{name}: {asked.title} {place}")
    for name, board in BOARDS.items()
    for place, asked in enumerate(queries(board))
]


def test_the_files_are_what_the_code_makes() -> None:
    made = pages()
    assert set(made) == set(BOARDS) == {"releases", "operations"}
    for name, page in made.items():
        written = (DASHBOARDS / f"{name}.json").read_text(encoding="utf-8")
        assert written == page, "run make dashboards"


def test_another_address_of_the_gate_changes_the_variable_alone() -> None:
    ours, theirs = pages()["releases"], pages("https://gate.example")["releases"]
    assert theirs.replace("https://gate.example", "http://localhost:8000") == ours


class TestSchema:
    """As strict as Grafana's published types: no unknown field, no value of another type."""

    @pytest.mark.parametrize("board", ALL)
    def test_nothing_is_lost_in_grafanas_types(self, board: Board) -> None:
        again = plain(typed(board))
        # The types have no fields for what a data source adds to an annotation.
        own = Event("", "", "", "", "").own
        for event in board["annotations"]["list"]:
            assert own.keys() <= event.keys()
        expected = json.loads(json.dumps(board))
        for event in expected["annotations"]["list"]:
            for name in own:
                del event[name]
        assert again == expected

    @pytest.mark.parametrize("board", ALL)
    def test_every_value_has_the_type_of_its_field(self, board: Board) -> None:
        assert list(faults(typed(board), Dashboard, board["uid"])) == []

    def test_a_value_of_another_type_is_found(self) -> None:
        board = json.loads(json.dumps(BOARDS["releases"]))
        drawn = next(p for p in board["panels"] if p["type"] == "timeseries")
        drawn["options"]["legend"]["placement"] = "left"
        drawn["gridPos"]["w"] = "12"
        found = list(faults(typed(board), Dashboard, "releases"))
        assert sorted(line.split()[0].rpartition(".")[2] for line in found) == ["placement", "w"]


def typed(board: Board) -> Dashboard:
    register_default_plugins()
    return Dashboard.from_json(dict(board))


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, cls=JSONEncoder))


def faults(value: Any, kind: Any, where: str) -> Iterator[str]:
    """Where a value is not of the annotated type, all the way down."""
    if isinstance(value, dict) and hasattr(kind, "from_json"):
        # Grafana's reader leaves some parts of a panel as they were.
        read = kind.from_json(value)
        if plain(read) != value:
            yield f"{where} has fields that a {kind.__name__} has not"
        value = read
    if type(value).__module__.startswith("grafana_foundation_sdk.models"):
        if isinstance(kind, type) and kind is not object and not isinstance(value, kind):
            yield f"{where} is a {type(value).__name__}"
        for name, annotated in typing.get_type_hints(type(value)).items():
            yield from faults(getattr(value, name), annotated, f"{where}.{name}")
    elif typing.get_origin(kind) in (typing.Union, types.UnionType):
        if value is None and type(None) in typing.get_args(kind):
            return
        kinds = [one for one in typing.get_args(kind) if one is not type(None)]
        yield from min((list(faults(value, one, where)) for one in kinds), key=len)
    elif typing.get_origin(kind) is list:
        if not isinstance(value, list):
            yield f"{where} is no list: {value!r}"
            return
        for place, one in enumerate(value):
            yield from faults(one, typing.get_args(kind)[0], f"{where}[{place}]")
    elif typing.get_origin(kind) is dict:
        if not isinstance(value, dict):
            yield f"{where} is no object: {value!r}"
            return
        for key, one in value.items():
            yield from faults(one, typing.get_args(kind)[1], f"{where}.{key}")
    elif not fits(value, kind):
        yield f"{where} is {value!r} and not {kind}"


def fits(value: Any, kind: Any) -> bool:
    if kind is object or kind is typing.Any:
        return True
    if typing.get_origin(kind) is typing.Literal:
        return value in typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return value in [member.value for member in kind]
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


class TestReading:
    """What a reader needs to understand a panel without asking."""

    @pytest.mark.parametrize("panel", PANELS)
    def test_every_panel_says_how_to_read_it_and_in_which_unit(self, panel: Board) -> None:
        description = panel["description"]
        assert len(description) > 40
        assert description.endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS

    @pytest.mark.parametrize("panel", PANELS)
    def test_every_panel_asks_the_chosen_data_source_and_names_its_series(
        self, panel: Board
    ) -> None:
        assert panel["datasource"] == {"type": SOURCE.type_val, "uid": "${datasource}"}
        assert panel["targets"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        for target in panel["targets"]:
            tabular = panel["type"] == "table"
            assert bool(target["legendFormat"]) is not tabular
            assert target["format"] == ("table" if tabular else "time_series")

    @pytest.mark.parametrize("panel", PANELS)
    def test_counts_of_a_stretch_of_time_say_how_short_it_may_be(self, panel: Board) -> None:
        counts = [t["expr"] for t in panel["targets"] if "[$__interval]" in t["expr"]]
        assert not counts or "interval" in panel

    @pytest.mark.parametrize("board", ALL)
    def test_states_have_names(self, board: Board) -> None:
        strips = [panel for panel in panels(board) if panel["type"] == "state-timeline"]
        assert strips
        assert all(panel["fieldConfig"]["defaults"]["mappings"] for panel in strips)


class TestLayout:
    @pytest.mark.parametrize("board", ALL)
    def test_numbers_and_titles_are_there_once(self, board: Board) -> None:
        numbers = [panel["id"] for panel in board["panels"]]
        titles = [panel["title"] for panel in panels(board)]
        assert len(set(numbers)) == len(numbers)
        assert len(set(titles)) == len(titles)

    @pytest.mark.parametrize("board", ALL)
    def test_panels_fill_the_grid_without_overlap_or_gap(self, board: Board) -> None:
        cells: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            mine = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not mine & cells, panel["title"]
            cells |= mine
        height = 1 + max(y for _, y in cells)
        assert cells == {(x, y) for x in range(COLUMNS) for y in range(height)}

    def test_no_two_dashboards_have_the_same_id(self) -> None:
        assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)


class TestVariables:
    @pytest.mark.parametrize("board", ALL)
    def test_every_variable_that_is_used_exists_and_the_other_way_round(self, board: Board) -> None:
        declared = variables(board)
        asks = [str(variable["query"]) for variable in declared.values()]
        text = json.dumps([board["panels"], board["annotations"], board["links"], asks])
        named = used(text) - set(BUILT_IN) - {"__field", "__value"}
        assert named == set(declared)

    @pytest.mark.parametrize("board", ALL)
    def test_a_variable_uses_only_those_before_it(self, board: Board) -> None:
        seen: set[str] = set()
        for name, variable in variables(board).items():
            assert used(str(variable["query"])) <= seen, name
            seen.add(name)


class TestQueries:
    @pytest.mark.parametrize("asked", QUERIES)
    def test_every_query_parses_and_names_metrics_and_labels_that_exist(self, asked: Asked) -> None:
        named = asked_by(asked.expr)
        assert named
        for selector in named:
            assert_known(selector)

    @pytest.mark.parametrize("board", ALL)
    def test_every_variable_offers_a_label_that_exists(self, board: Board) -> None:
        for variable in variables(board).values():
            if variable["type"] == "query":
                series, label = asked_of(variable)
                (selector,) = asked_by(series)
                assert_known(selector)
                assert label in labels_of(selector.name)

    @pytest.mark.parametrize(
        ("expression", "says"),
        [
            ("emgate_verdicts", "emgate_verdicts"),
            ('emgate_verdicts_total{result="pass"}', "result"),
            ("rate(vllm:tokens_total[5m])", "vllm:tokens"),
        ],
    )
    def test_what_does_not_exist_is_found(self, expression: str, says: str) -> None:
        (selector,) = asked_by(expression)
        with pytest.raises(AssertionError, match=says):
            assert_known(selector)


def asked_by(expression: str) -> list[Any]:
    """The selectors of series in an expression, once its variables are filled in."""
    return list(selectors(filled(expression, VALUES)))


def assert_known(selector: Any) -> None:
    name: str = selector.name
    labels = labels_asked_by(selector)
    if name.startswith("vllm:"):
        family = re.sub(r"_(total|bucket|sum|count)$", "", name)
        assert f'"{family}"' in vllm_metrics(), f"vLLM has no {family}"
    else:
        assert name in SERIES or name == "up" or name.startswith("process_"), f"no metric {name}"
    assert labels <= labels_of(name), f"{name} has no {labels - labels_of(name)}"


def vllm_metrics() -> str:
    """Where the installed vLLM makes its metrics; read and not run, because that takes seconds."""
    spec = find_spec("vllm")
    assert spec
    assert spec.origin
    source = Path(spec.origin).parent / "v1" / "metrics" / "loggers.py"
    return source.read_text(encoding="utf-8")


class TestLinks:
    def test_every_table_of_submissions_links_to_their_reports(self) -> None:
        linked = [p["title"] for p in panels(BOARDS["releases"]) if OF_CELL in json.dumps(p)]
        tables = [p["title"] for p in panels(BOARDS["releases"]) if p["type"] == "table"]
        assert linked == tables


class TestProvisioning:
    def test_the_data_source_is_the_one_that_the_dashboards_start_with(self) -> None:
        (source,) = provisioned("datasources/prometheus.yml")["datasources"]
        for board in BOARDS.values():
            assert variables(board)["datasource"]["current"]["value"] == source["uid"]
            assert variables(board)["datasource"]["query"] == source["type"]

    def test_dashboards_are_read_from_files_and_not_changed_in_the_browser(self) -> None:
        (provider,) = provisioned("dashboards/em-gate.yml")["providers"]
        assert provider["type"] == "file"
        assert provider["allowUiUpdates"] is False
        assert not any(board["editable"] for board in BOARDS.values())


def provisioned(path: str) -> Any:
    return yaml.safe_load((REPOSITORY / "deploy/grafana/provisioning" / path).read_text())


class TestPage:
    def test_the_tables_of_the_page_are_made_from_the_dashboards(self) -> None:
        page = PAGE.read_text(encoding="utf-8")
        assert with_tables(page, BOARDS) == page, "run make dashboards"

    def test_a_page_without_a_place_for_a_table_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"panels of \w+"):
            with_tables("# Grafana", BOARDS)

    @pytest.mark.parametrize("board", ALL)
    def test_a_table_has_a_line_for_every_panel(self, board: Board) -> None:
        assert table(board).count("\n") == 1 + len(panels(board))
        assert sum(len(under) for _, under in rows(board)) == len(panels(board))
