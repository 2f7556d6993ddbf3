"""JSON Schemas of KEDA's and the Prometheus operator's objects, from published types of both."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

from integration.chart.rendering import REPOSITORY

TYPES = REPOSITORY / ".venv" / "chart"
#: How patterns written for Go begin that Python reads only the other way round.
GO_IGNORES_CASE = "^(?i)"
#: Where the type of each kind is.
MODULES = {
    "ScaledObject": "keda.v1alpha1",
    "ServiceMonitor": "prometheus_operator.v1",
    "PodMonitor": "prometheus_operator.v1",
    "PrometheusRule": "prometheus_operator.v1",
}


@lru_cache
def schema_of(kind: str) -> dict[str, Any]:
    """The schema of a kind, in which a field that is not described is an error."""
    assert TYPES.is_dir(), "the types are not here: run deploy/install-helm.sh"
    if str(TYPES) not in sys.path:
        sys.path.append(str(TYPES))
    from importlib import import_module

    module = import_module(f"cloudcoil.models.{MODULES[kind]}")
    schema: dict[str, Any] = getattr(module, kind).model_json_schema(by_alias=True)
    _make_strict(schema)
    return schema


def _make_strict(node: Any) -> None:
    if isinstance(node, dict):
        if "properties" in node:
            node["additionalProperties"] = False
        if str(node.get("pattern", "")).startswith(GO_IGNORES_CASE):
            node["pattern"] = "(?i)^" + node["pattern"].removeprefix(GO_IGNORES_CASE)
        for child in node.values():
            _make_strict(child)
    elif isinstance(node, list):
        for child in node:
            _make_strict(child)
