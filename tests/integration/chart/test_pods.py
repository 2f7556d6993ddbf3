"""Pods run commands that exist, with settings that the gate reads, and with few rights."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from gate.access.loopback import listens_on_loopback
from gate.api.monitoring import router
from gate.hooks.config import load_hooks
from gate.policy import load_policy
from gate.settings import Device, Settings
from gate.tasks import QUEUES
from integration.chart.commands import parse
from integration.chart.rendering import (
    CHART,
    REPOSITORY,
    VARIANTS,
    Object,
    Rendered,
    container,
    helm,
    port,
    rendered,
    strings,
    values_of,
)
from workers.judges.judge_file import member_path, read_judge_file

#: What the project's images run as.
IMAGE_USER = 10001
#: The kinds of volumes that the Pod Security Standard "restricted" allows and the chart uses.
VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim"}


def variables(found: Rendered, pod: Object) -> dict[str, str]:
    """The environment of a pod, with a stand-in for what comes from Secrets."""
    environment: dict[str, str] = {}
    for source in container(pod).get("envFrom", []):
        environment |= found.one("ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container(pod).get("env", []):
        match variable.get("valueFrom"):
            case None:
                environment[variable["name"]] = variable["value"]
            case {"secretKeyRef": _}:
                environment[variable["name"]] = "postgresql://stand-in"
            case {"resourceFieldRef": {"resource": resource, "divisor": "1"}}:
                limits = container(pod)["resources"].get("limits", {})
                environment[variable["name"]] = limits[resource.removeprefix("limits.")]
            case other:
                pytest.fail(f"not understood here: {other}")
    return environment


def settings_in(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith("GATE_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Settings()


def gate_pods(found: Rendered) -> list[tuple[str, Object]]:
    """The pods that run a command of emgate."""
    return [(n, pod) for n, pod in found.pods() if container(pod)["command"][0] == "emgate"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_command_is_one_of_emgate(variant: str) -> None:
    commands = {n: parse(container(pod)["command"]) for n, pod in gate_pods(rendered(variant))}
    assert {words for words, _ in commands.values()} >= {"serve", "worker"}
    for _, (words, parameters) in commands.items():
        if words == "worker":
            assert parameters["queues"] in QUEUES


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_settings_of_every_pod_are_settings_of_the_gate(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {f"GATE_{name.upper()}" for name in Settings.model_fields}
    for name, pod in gate_pods(rendered(variant)):
        environment = variables(rendered(variant), pod)
        assert {v for v in environment if v.startswith("GATE_")} <= known, name
        current = settings_in(environment, monkeypatch)
        mounts = {m["mountPath"] for m in container(pod)["volumeMounts"]}
        assert any(str(current.home).startswith(mount) for mount in mounts), name
        ports = {p["name"]: p["containerPort"] for p in container(pod).get("ports", [])}
        if "http" in ports:
            assert ports["http"] == current.api_port
        if "metrics" in ports:
            assert ports["metrics"] == current.worker_metrics_port
        if ports:
            assert not listens_on_loopback(current.api_host), name
        assert all(
            any(root.is_relative_to(mount) for mount in mounts)
            for root in current.checkpoint_roots
            if "checkpoints" in {m["name"] for m in container(pod)["volumeMounts"]}
        ), name


def test_a_worker_serves_on_its_device_with_its_own_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = rendered("gpu")
    pair = found.one("Deployment", "trial-em-gate-worker-h100-pair")["spec"]["template"]
    settings = settings_in(variables(found, pair), monkeypatch)
    assert settings.device is Device.CUDA
    assert settings.engine_arguments == ["--tensor-parallel-size", "2"]
    assert settings.engine_max_model_len == 8192
    assert container(pair)["image"] == "registry.example/em-gate:0.1.0-cuda"
    assert container(pair)["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert pair["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    small = found.one("Deployment", "trial-em-gate-worker-l4")["spec"]["template"]
    assert settings_in(variables(found, small), monkeypatch).engine_arguments == []


def test_a_cpu_engine_takes_as_many_threads_as_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rendered("default")
    pod = found.one("Deployment", "trial-em-gate-worker-cpu")["spec"]["template"]
    settings = settings_in(variables(found, pod), monkeypatch)
    assert settings.device is Device.CPU
    assert settings.engine_threads == int(container(pod)["resources"]["limits"]["cpu"])


def test_policies_judge_and_hooks_are_read_by_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = rendered("full")
    texts = found.one("ConfigMap", "gate-files")["data"]
    for name, pod in gate_pods(found):
        if "job" in name or name.endswith("migrations"):
            continue
        settings = settings_in(variables(found, pod), monkeypatch)
        (mount,) = [m for m in container(pod)["volumeMounts"] if m["name"] == "files"]
        (volume,) = [v for v in pod["spec"]["volumes"] if v["name"] == "files"]
        root = tmp_path / name
        for item in volume["configMap"]["items"]:
            file = root / item["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(texts[item["key"]])

        def here(path: Path | str, mount: Object = mount, root: Path = root) -> Path:
            return root / Path(path).relative_to(mount["mountPath"])

        policies = [here(directory) for directory in settings.policy_directories]
        assert load_policy("strict", policies).name == "strict"
        judge = read_judge_file(here(settings.judge))
        assert [m for m in judge.members if m != "embedded"] == ["hosted.yaml"]  # type: ignore[union-attr]
        read_judge_file(member_path(here(settings.judge), "hosted.yaml"))
        assert settings.hooks_file is not None
        assert load_hooks(here(settings.hooks_file)).send[0].name == "pipeline"


def test_secrets_go_only_to_the_parts_that_need_them() -> None:
    def from_secrets(name: str) -> set[str]:
        pod = rendered("full").one("Deployment", name)["spec"]["template"]
        refs = [v.get("valueFrom", {}).get("secretKeyRef") for v in container(pod)["env"]]
        return {ref["name"] for ref in refs if ref}

    # Neither key nor address of anything else: a judge reads what a hostile model has written.
    judging = rendered("full").one("Deployment", "gate-judging")["spec"]["template"]
    assert "GATE_DATABASE_URL" not in variables(rendered("full"), judging)
    assert from_secrets("gate-api") == {"gate-connections", "gate-hooks"}
    assert from_secrets("gate-worker-cpu") == {"gate-connections", "gate-sources"}
    assert from_secrets("gate-judging") == {"gate-connections", "gate-judge"}
    assert from_secrets("gate-notifier") == {"gate-connections", "gate-hooks"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_secret_is_in_the_release(variant: str) -> None:
    found = rendered(variant)
    assert not found.of("Secret")
    for one in found.of("ConfigMap"):
        assert not {"GATE_DATABASE_URL", "GATE_BROKER_URL"} & set(one["data"])
        for text in strings(one["data"]):
            assert not re.search(r"://[^/\s]*@|BEGIN [A-Z ]*KEY|whsec_|emg_[0-9a-f]", text)


@pytest.mark.parametrize("variant", VARIANTS)
def test_probes_ask_for_pages_that_are_there(variant: str) -> None:
    pages = {route.path for route in router.routes}  # type: ignore[attr-defined]
    probed = 0
    for name, pod in gate_pods(rendered(variant)):
        probes = {k: v for k, v in container(pod).items() if k.endswith("Probe")}
        if container(pod).get("ports"):
            assert set(probes) == {"startupProbe", "readinessProbe", "livenessProbe"}, name
        for probe in probes.values():
            assert probe["httpGet"]["path"] in pages
            assert port(pod, probe["httpGet"]["port"])
            probed += 1
    assert probed


def test_the_api_is_not_probed_where_a_key_is_needed() -> None:
    from gate.access.scopes import scope_needed

    pod = rendered("default").one("Deployment", "trial-em-gate-api")["spec"]["template"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert scope_needed("GET", container(pod)[probe]["httpGet"]["path"]) is None


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_pod_meets_the_restricted_security_standard(variant: str) -> None:
    pods = list(rendered(variant).pods())
    assert len(pods) >= 3
    for name, pod in pods:
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] == IMAGE_USER
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(spec)
        assert all(VOLUMES & set(volume) for volume in spec.get("volumes", []))
        rights = container(pod)["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["privileged"] is False
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container(pod)["resources"]["limits"], name


def test_pods_run_as_the_user_of_the_image() -> None:
    dockerfile = (REPOSITORY / "deploy" / "Dockerfile").read_text()
    assert re.search(rf"\b{IMAGE_USER}\b", dockerfile)


@pytest.mark.parametrize("variant", VARIANTS)
def test_checkpoints_are_read_only_and_only_where_they_are_read(variant: str) -> None:
    for name, pod in rendered(variant).pods():
        mounts = [m for m in container(pod).get("volumeMounts", []) if m["name"] == "checkpoints"]
        part = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        assert len(mounts) == (variant in {"gpu", "full"} and part in {"api", "worker"}), name
        assert all(mount["readOnly"] for mount in mounts)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_mount_is_of_a_volume_and_every_volume_is_mounted(variant: str) -> None:
    for name, pod in rendered(variant).pods():
        volumes = [v["name"] for v in pod["spec"].get("volumes", [])]
        mounts = [m["name"] for m in container(pod).get("volumeMounts", [])]
        assert sorted(volumes) == sorted(mounts), name


@pytest.mark.parametrize(
    ("variant", "gib"), [("default", "0"), ("gpu", None)], ids=["own home", "shared home"]
)
def test_uploads_are_off_where_workers_would_not_find_them(variant: str, gib: str | None) -> None:
    (settings,) = rendered(variant).of("ConfigMap")
    assert settings["data"].get("GATE_UPLOAD_GIB") == gib


def test_migrations_use_nothing_that_comes_after_them() -> None:
    found = rendered("full")
    (job,) = found.of("Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    pod = job["spec"]["template"]
    assert parse(container(pod)["command"])[0] == "db upgrade"
    used = set(strings(pod["spec"]))
    made = {o["metadata"]["name"] for o in found.objects if o["kind"] != "Job"}
    assert not used & made
    assert "serviceAccountName" not in pod["spec"]
    assert "envFrom" not in container(pod)


def test_the_first_key_is_made_by_one_command_that_kubernetes_and_emgate_take() -> None:
    notes = _notes("full")
    (line,) = re.findall(r"--overrides='(.*)'$", notes, re.MULTILINE)
    pod: dict[str, Any] = {"kind": "Pod", **json.loads(line)}
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    words, parameters = parse(container(pod)["command"])
    assert words == "keys create"
    assert [scope.value for scope in parameters["scope"]] == ["admin"]
    assert {v["name"] for v in container(pod)["env"]} >= {"GATE_DATABASE_URL"}


def test_notes_say_what_is_missing() -> None:
    assert "Uploads are off" in _notes("default")
    assert "Uploads are off" not in _notes("full")


def _notes(variant: str) -> str:
    ran = helm("install", "trial", str(CHART), "--dry-run=client", *values_of(variant))
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.partition("NOTES:")[2]
