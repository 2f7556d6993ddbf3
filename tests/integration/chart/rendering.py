"""Renders the Helm chart with helm itself, and finds things in what comes out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

REPOSITORY = Path(__file__).resolve().parents[3]
CHART = REPOSITORY / "deploy" / "helm" / "em-gate"
HELM = REPOSITORY / ".venv" / "bin" / "helm"
RELEASE, NAMESPACE = "trial", "safety"
#: Values as they are, and what lies in the chart's directory ci.
VARIANTS = ("default", "minimal", "gpu", "full")
SECONDS = 60


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm; whether it succeeded is for the caller to see."""
    assert HELM.is_file(), "helm is not here: run deploy/install-helm.sh"
    return subprocess.run(
        [str(HELM), *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def template(*arguments: str, release: str = RELEASE) -> subprocess.CompletedProcess[str]:
    """``helm template`` with further arguments."""
    return helm("template", release, str(CHART), "--namespace", NAMESPACE, *arguments)


def values_of(variant: str) -> list[str]:
    """The arguments by which helm gets the values of a variant."""
    return (
        [] if variant == "default" else ["--values", str(CHART / "ci" / f"{variant}-values.yaml")]
    )


@dataclass(frozen=True)
class Rendered:
    """The objects that one variant of the chart makes."""

    objects: list[Object]

    def of(self, *kinds: str) -> list[Object]:
        """All objects of these kinds."""
        return [found for found in self.objects if found["kind"] in kinds]

    def one(self, kind: str, name: str) -> Object:
        """The object of this name."""
        (found,) = [o for o in self.of(kind) if o["metadata"]["name"] == name]
        return found

    def pods(self) -> Iterator[tuple[str, Object]]:
        """Name and pod (metadata and spec) of everything that runs."""
        for found in self.objects:
            if found["kind"] in {"Deployment", "Job"}:
                yield found["metadata"]["name"], found["spec"]["template"]
            elif found["kind"] == "Pod":
                yield found["metadata"]["name"], found


@lru_cache
def rendered(variant: str) -> Rendered:
    """The objects of a variant."""
    ran = template(*values_of(variant))
    assert ran.returncode == 0, ran.stderr
    return Rendered(read(ran.stdout))


def read(text: str) -> list[Object]:
    """The objects in YAML documents."""
    return [document for document in yaml.safe_load_all(text) if document]


def selects(selector: Mapping[str, Any], pod: Object) -> bool:
    """Whether a label selector of the kind that this chart writes selects a pod."""
    assert set(selector) <= {"matchLabels"}, f"not understood here: {selector}"
    labels = pod["metadata"].get("labels", {})
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def container(pod: Object) -> Object:
    """The only container of a pod."""
    found: Object
    (found,) = pod["spec"]["containers"]
    return found


def port(pod: Object, name: str) -> int:
    """The number of a named port."""
    (found,) = [p["containerPort"] for p in container(pod)["ports"] if p["name"] == name]
    return int(found)


def strings(value: Any) -> Iterator[str]:
    """Every text in a document, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _all_strings(value.values())
    elif isinstance(value, list):
        yield from _all_strings(value)


def _all_strings(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        yield from strings(value)
