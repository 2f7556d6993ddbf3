"""What the reader of a dashboard chooses at its top."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.boards.panels import SOURCE

#: Where the gate answers, as the reader's browser reaches it, unless another address is given.
GATE_URL = "http://localhost:8000"


def datasource() -> dashboard.DatasourceVariable:
    """The Prometheus that is asked."""
    variable = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    return variable.current(models.VariableOption(text="Prometheus", value="prometheus"))


def gate(url: str) -> dashboard.TextBoxVariable:
    """The public address of the gate, without a slash at its end; links to reports use it."""
    variable = dashboard.TextBoxVariable("gate").label("Gate").default_value(url)
    chosen = models.VariableOption(text=url, value=url)
    variable.current(chosen).options([chosen])
    return variable.description("Address of the gate's API as your browser reaches it.")


def one_of(name: str, label: str, query: str, description: str) -> dashboard.QueryVariable:
    """One value of a label."""
    variable = dashboard.QueryVariable(name).label(label).query(query).datasource(SOURCE)
    variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return variable.sort(models.VariableSort.ALPHABETICAL_ASC).description(description)


def any_of(name: str, label: str, query: str, description: str) -> dashboard.QueryVariable:
    """Some values of a label; all of them at first."""
    variable = one_of(name, label, query, description).multi(True).include_all(True)
    variable.all_value(".*")
    everything = models.VariableOption(text=["All"], value=["$__all"], selected=True)
    return variable.current(everything)
