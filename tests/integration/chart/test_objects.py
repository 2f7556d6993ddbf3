"""Services, budgets, policies, monitors and scaling act on the pods that they are meant for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml

from gate.submission import TERMINAL, State
from integration.chart.rendering import (
    REPOSITORY,
    VARIANTS,
    Object,
    Rendered,
    container,
    port,
    rendered,
    selects,
)

NAMESPACED = "kubernetes.io/metadata.name"


def part(pod: Object) -> str:
    return str(pod["metadata"]["labels"]["app.kubernetes.io/component"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_deployment_selects_its_own_pods_and_no_others(variant: str) -> None:
    found = rendered(variant)
    for deployment in found.of("Deployment"):
        own = deployment["metadata"]["name"]
        selected = [n for n, pod in found.pods() if selects(deployment["spec"]["selector"], pod)]
        assert selected == [own]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_service_leads_to_the_api(variant: str) -> None:
    found = rendered(variant)
    (service,) = found.of("Service")
    selector = {"matchLabels": service["spec"]["selector"]}
    ((_, pod),) = [(n, pod) for n, pod in found.pods() if selects(selector, pod)]
    assert part(pod) == "api"
    (entry,) = service["spec"]["ports"]
    assert port(pod, entry["targetPort"]) == 8000


def test_the_ingress_and_the_test_lead_to_the_service() -> None:
    found = rendered("full")
    (service,) = found.of("Service")
    (ingress,) = found.of("Ingress")
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == service["metadata"]["name"]
    assert backend["port"]["name"] in {p["name"] for p in service["spec"]["ports"]}
    assert ingress["spec"]["tls"][0]["hosts"] == [ingress["spec"]["rules"][0]["host"]]
    (test,) = found.of("Pod")
    address = f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}/health"
    assert container(test)["command"][-1] == address


@pytest.mark.parametrize("variant", ["default", "gpu", "full"])
def test_every_deployment_has_one_budget(variant: str) -> None:
    found = rendered(variant)
    for deployment in found.of("Deployment"):
        pod = deployment["spec"]["template"]
        budgets = [
            b for b in found.of("PodDisruptionBudget") if selects(b["spec"]["selector"], pod)
        ]
        # Two budgets on one pod would make every eviction an error.
        assert len(budgets) == 1, deployment["metadata"]["name"]
        assert budgets[0]["spec"]["maxUnavailable"] == 1


# Network


def policies_for(found: Rendered, pod: Object) -> list[Object]:
    return [p for p in found.of("NetworkPolicy") if selects(p["spec"]["podSelector"], pod)]


def egress(found: Rendered, pod: Object) -> Iterator[tuple[Any, int]]:
    for policy in policies_for(found, pod):
        for rule in policy["spec"].get("egress", []):
            for peer in rule["to"]:
                yield from ((peer, p["port"]) for p in rule["ports"])


@pytest.mark.parametrize("variant", ["default", "gpu", "full"])
def test_all_traffic_is_denied_but_what_names_its_peers(variant: str) -> None:
    found = rendered(variant)
    for name, pod in found.pods():
        policies = policies_for(found, pod)
        assert any(not set(p["spec"]) & {"ingress", "egress"} for p in policies), name
        for policy in policies:
            assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
            for rule in policy["spec"].get("ingress", []):
                assert rule["from"]
                assert rule["ports"]
            for rule in policy["spec"].get("egress", []):
                assert rule["to"]
                assert rule["ports"]


@pytest.mark.parametrize("variant", ["default", "gpu", "full"])
def test_each_part_reaches_the_ports_that_it_needs_and_no_others(variant: str) -> None:
    found = rendered(variant)
    broker = 6380 if variant == "full" else 6379
    outside = {443} if variant == "full" else set()
    everywhere = {4318} if variant == "full" else set()
    needed = {
        "api": {53, 5432, broker},
        "worker": {53, 5432, broker} | outside,
        "judging": {53, broker} | outside,
        "notifier": {53, 5432, broker} | outside,
        "migrations": {53, 5432},
        "test": {53, 8000},
    }
    for name, pod in found.pods():
        assert {p for _, p in egress(found, pod)} == needed[part(pod)] | everywhere, name


def test_engines_reach_nothing_outside_the_cluster_unless_sources_say_so() -> None:
    for variant in ("default", "gpu"):
        for _, pod in rendered(variant).pods():
            assert not [peer for peer, _ in egress(rendered(variant), pod) if "ipBlock" in peer]
    wide = {
        part(pod)
        for _, pod in rendered("full").pods()
        for peer, _ in egress(rendered("full"), pod)
        if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0"
    }
    assert wide == {"worker"}


def test_a_judge_is_asked_by_judging_workers_where_there_are_any() -> None:
    judge = {"ipBlock": {"cidr": "203.0.113.7/32"}}
    found = rendered("full")
    asking = {part(pod) for _, pod in found.pods() if (judge, 443) in list(egress(found, pod))}
    assert asking == {"judging"}


def test_only_clients_and_prometheus_come_in() -> None:
    found = rendered("full")
    for _, pod in found.pods():
        peers = [
            (peer, p["port"])
            for policy in policies_for(found, pod)
            for rule in policy["spec"].get("ingress", [])
            for peer in rule["from"]
            for p in rule["ports"]
        ]
        namespaces = {
            (peer["namespaceSelector"]["matchLabels"][NAMESPACED], number)
            for peer, number in peers
            if "namespaceSelector" in peer
        }
        match part(pod):
            case "api":
                assert namespaces == {("monitoring", 8000), ("ingress-nginx", 8000)}
                (test,) = [peer for peer, _ in peers if "podSelector" in peer]
                assert selects(test["podSelector"], found.one("Pod", "gate-test"))
            case "worker" | "judging" | "notifier":
                assert namespaces == {("monitoring", 9101)}
                assert len(peers) == 1
            case _:
                assert not peers


# Monitoring


@pytest.mark.parametrize("variant", ["gpu", "full"])
def test_monitors_find_api_and_workers_under_the_names_of_their_jobs(variant: str) -> None:
    found = rendered(variant)
    (service,) = found.of("Service")
    (monitor,) = found.of("ServiceMonitor")
    assert selects(monitor["spec"]["selector"], service)
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "emgate-api"
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {p["name"] for p in service["spec"]["ports"]}
    (monitor,) = found.of("PodMonitor")
    watched = [pod for _, pod in found.pods() if selects(monitor["spec"]["selector"], pod)]
    workers = [pod for _, pod in found.pods() if part(pod) in {"worker", "judging", "notifier"}]
    assert watched == workers
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for pod in workers:
        assert pod["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "emgate-worker"
        assert port(pod, endpoint["port"]) == 9101


def test_the_rules_are_those_of_the_repository() -> None:
    directory = REPOSITORY / "deploy" / "prometheus" / "rules"
    expected = [
        group
        for file in sorted(directory.glob("*.y*ml"))
        for group in yaml.safe_load(file.read_text())["groups"]
    ]
    assert expected
    (rule,) = rendered("gpu").of("PrometheusRule")
    assert rule["spec"]["groups"] == expected


# Scaling


def test_every_pool_is_scaled_and_nothing_else() -> None:
    found = rendered("gpu")
    scaled = {o["spec"]["scaleTargetRef"]["name"]: o for o in found.of("ScaledObject")}
    for deployment in found.of("Deployment"):
        name = deployment["metadata"]["name"]
        is_engine = part(deployment["spec"]["template"]) == "worker"
        assert (name in scaled) == is_engine
        # A number of replicas in the release would undo the scaling at every upgrade.
        assert ("replicas" in deployment["spec"]) == (not is_engine)
    assert scaled["trial-em-gate-worker-l4"]["spec"]["maxReplicaCount"] == 8
    assert not rendered("default").of("ScaledObject")


def test_scaling_counts_every_submission_that_has_not_ended() -> None:
    for scaled in rendered("gpu").of("ScaledObject"):
        (trigger,) = scaled["spec"]["triggers"]
        total = promql_parser.parse(trigger["metadata"]["query"])
        assert isinstance(total, promql_parser.AggregateExpr)
        assert isinstance(total.expr, promql_parser.AggregateExpr)
        selector = total.expr.expr
        assert isinstance(selector, promql_parser.VectorSelector)
        assert selector.name == "emgate_submissions"
        matchers = {m.name: m.value for m in selector.matchers.matchers}
        assert matchers["job"] == "emgate-api"
        assert matchers["namespace"] == "safety"
        # What runs counts too: a pool that shrank to the queue alone would end its busy workers.
        assert set(matchers["state"].split("|")) == set(State) - TERMINAL
        assert trigger["metadata"]["ignoreNullValues"] == "false"


def test_pools_shrink_late_and_one_by_one() -> None:
    for scaled in rendered("gpu").of("ScaledObject"):
        behaviour = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert behaviour["scaleDown"]["policies"] == [
            {"type": "Pods", "value": 1, "periodSeconds": 300}
        ]
        assert behaviour["scaleDown"]["stabilizationWindowSeconds"] >= 600
        assert scaled["spec"]["cooldownPeriod"] >= 600


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_worker_has_time_to_hand_its_submission_back(variant: str) -> None:
    from workers.engine.process import STOP_SECONDS

    for _, pod in rendered(variant).pods():
        if part(pod) == "worker":
            assert pod["spec"]["terminationGracePeriodSeconds"] > 2 * STOP_SECONDS
