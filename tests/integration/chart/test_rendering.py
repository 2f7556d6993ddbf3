"""What helm makes of the chart is what Kubernetes, KEDA and the Prometheus operator take."""

from __future__ import annotations

import tarfile
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest

from integration.chart.custom_resources import MODULES, schema_of
from integration.chart.rendering import (
    CHART,
    NAMESPACE,
    VARIANTS,
    helm,
    read,
    rendered,
    template,
    values_of,
)

#: The oldest Kubernetes that Chart.yaml allows, and the newest whose schemas are installed.
KUBERNETES = ("1.27", kubernetes_validate.latest_version())


@pytest.mark.parametrize("variant", VARIANTS)
def test_lint_finds_nothing(variant: str) -> None:
    ran = helm("lint", "--strict", str(CHART), *values_of(variant))
    assert ran.returncode == 0, ran.stdout
    assert "[WARNING]" not in ran.stdout


@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_has_the_form_of_its_kind(variant: str, kubernetes: str) -> None:
    for found in rendered(variant).objects:
        if found["kind"] not in MODULES:
            kubernetes_validate.validate(found, kubernetes, strict=True)


@pytest.mark.parametrize(
    ("variant", "kinds"),
    [("gpu", set(MODULES)), ("full", {"ServiceMonitor", "PodMonitor", "PrometheusRule"})],
)
def test_every_custom_resource_has_the_form_of_its_kind(variant: str, kinds: set[str]) -> None:
    found = rendered(variant).of(*MODULES)
    assert {o["kind"] for o in found} == kinds
    for one in found:
        jsonschema.validate(one, schema_of(one["kind"]))


def test_a_field_that_a_custom_resource_does_not_have_is_noticed() -> None:
    (one,) = rendered("gpu").of("ServiceMonitor")
    wrong = {**one, "spec": {**one["spec"], "jobsLabel": "emgate/job"}}
    with pytest.raises(jsonschema.ValidationError, match="jobsLabel"):
        jsonschema.validate(wrong, schema_of("ServiceMonitor"))


def test_minimal_values_make_no_more_than_what_runs_and_its_settings() -> None:
    kinds = sorted(o["kind"] for o in rendered("minimal").objects)
    hook = ["Pod"]
    assert kinds == sorted(
        ["ConfigMap", "Deployment", "Deployment", "Service", "ServiceAccount", *hook]
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_object_comes_twice(variant: str) -> None:
    names = [(o["kind"], o["metadata"]["name"]) for o in rendered(variant).objects]
    assert len(names) == len(set(names))


def test_the_longest_names_are_short_enough() -> None:
    longest = "p" * 16
    ran = template(
        *values_of("gpu"), "--set", f"workers[0].name={longest},workers[1].name=b", release="r" * 53
    )
    assert ran.returncode == 0, ran.stderr
    objects = read(ran.stdout)
    assert any(o["metadata"]["name"].endswith(longest) for o in objects)
    for found in objects:
        # KEDA makes an autoscaler of this name.
        prefix = "keda-hpa-" if found["kind"] == "ScaledObject" else ""
        assert len(prefix + found["metadata"]["name"]) <= 63
        assert all(len(str(value)) <= 63 for value in found["metadata"]["labels"].values())


@pytest.mark.parametrize(
    ("value", "place", "why"),
    [
        ("settings.GATE_KEYS_REQURIED=true", "/settings", "GATE_KEYS_REQURIED"),
        ("settings.GATE_DATABASE_URL=x", "/settings", "GATE_DATABASE_URL"),
        ("environment.GATE_HOME=/x", "/environment/GATE_HOME", ""),
        ("api.replica=3", "/api", "replica"),
        ("judging=null", "missing property", "'judging'"),
        ("workers[0].name=Large", "/workers/0/name", "does not match"),
        ("workers[0].device=tpu", "/workers/0/device", "'cpu', 'cuda'"),
        ("networkPolicies.sources[0].ports[0].port=443", "/networkPolicies/sources/0", "'to'"),
        ("images.cpu.digest=latest", "/images/cpu/digest", "does not match"),
        ("keda.enabled=true", "keda.prometheusAddress", "give the address"),
        ("api.ingress.enabled=true", "api.ingress.host", "give the name"),
        ("files.judge.other\\.yaml=x", "files.judge", "judge.yaml"),
    ],
)
def test_wrong_values_are_refused_with_their_place(value: str, place: str, why: str) -> None:
    ran = template("--set", value)
    assert ran.returncode != 0
    assert place in ran.stderr
    assert why in ran.stderr


def test_a_rule_that_would_open_everything_is_refused() -> None:
    ran = template("--set-json", "networkPolicies.dns=[]")
    assert ran.returncode != 0
    assert "names no peers" in ran.stderr


def test_large_numbers_stay_whole(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(
        "migrations: {activeDeadlineSeconds: 2000000}\n"
        "keda: {enabled: true, prometheusAddress: http://p, idleSeconds: 2000000}\n"
        "workers: [{name: a, terminationGracePeriodSeconds: 2000000}]\n"
    )
    ran = template("--values", str(values))
    # A template prints a number of a values file as 2e+06, which is no integer in YAML.
    assert ran.stdout.count(" 2000000\n") == 3, ran.stderr
    assert "e+" not in ran.stdout


def test_two_pools_of_one_name_are_refused(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("workers: [{name: a}, {name: a}]")
    ran = template("--values", str(values))
    assert ran.returncode != 0
    assert "two of them are called a" in ran.stderr


def test_the_package_has_the_rules_and_not_the_values_of_the_tests(tmp_path: Path) -> None:
    ran = helm("package", str(CHART), "--destination", str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    (package,) = tmp_path.glob("em-gate-*.tgz")
    with tarfile.open(package) as archive:
        names = archive.getnames()
    assert any(name.startswith("em-gate/rules/") for name in names)
    assert not any(name.startswith("em-gate/ci/") for name in names)
    again = helm("template", "trial", str(package), "--namespace", NAMESPACE, *values_of("gpu"))
    assert read(again.stdout) == rendered("gpu").objects
