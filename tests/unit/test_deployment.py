"""The examples of docs/deploy and the image: their names are the program's, and their times fit its times."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from app.http.application import OPEN_ROUTERS
from app.http.routers.scaling import Scaling
from app.probe import ROUTES
from app.settings import Settings, unknown_variables
from workers.engine.policy import DEFAULT_POLICIES, MAX_PROCESSES

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "docs" / "deploy"
DRAIN_SECONDS = Settings.model_fields["drain_seconds"].default
LONGEST_TIMEOUT = max(policy.timeout for policy in DEFAULT_POLICIES.values())
OPEN_PATHS = {route.path for router in OPEN_ROUTERS for route in router.routes}  # type: ignore[attr-defined]


def unit_options() -> dict[str, str]:
    """The options of the unit, by name; of repeated ones the last."""
    lines = (DEPLOY / "systemd" / "couturecast.service").read_text().splitlines()
    options = [line.partition("=") for line in lines if "=" in line and not line.startswith("#")]
    return {name: value for name, _, value in options}


def resources() -> dict[str, dict[str, Any]]:
    """The resources of the manifests, by kind."""
    files = (DEPLOY / "kubernetes").glob("*.yaml")
    return {resource["kind"]: resource for file in files for resource in yaml.safe_load_all(file.read_text())}


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = resources()["Deployment"]["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    (only,) = pod()["containers"]
    assert isinstance(only, dict)
    return only


def compose() -> dict[str, Any]:
    service: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"][
        "workers"
    ]
    return service


def dockerfile(instruction: str) -> str:
    """The arguments of the last such instruction."""
    lines = re.findall(rf"^{instruction} (.*(?:\\\n.*)*)", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)
    return str(lines[-1])


# systemd


def test_systemd_waits_longer_than_a_drain_takes() -> None:
    assert float(unit_options()["TimeoutStopSec"]) >= DRAIN_SECONDS + 10


def test_systemd_gives_a_blocked_process_the_time_to_name_its_handler() -> None:
    assert float(unit_options()["WatchdogSec"]) > LONGEST_TIMEOUT + 15


def test_the_unit_is_notified_and_kills_no_child_while_the_program_drains() -> None:
    options = unit_options()
    assert (options["Type"], options["NotifyAccess"], options["KillMode"]) == ("notify", "main", "mixed")
    assert options["SuccessExitStatus"] == "3"
    assert options["Restart"] == "on-failure"


# Kubernetes


def test_kubernetes_waits_longer_than_a_drain_takes() -> None:
    assert pod()["terminationGracePeriodSeconds"] >= DRAIN_SECONDS + 10


def test_the_probes_of_a_pod_are_routes_without_a_token_on_its_port() -> None:
    for probe, path in (("startupProbe", "live"), ("livenessProbe", "live"), ("readinessProbe", "ready")):
        request = container()[probe]["httpGet"]
        assert request == {"path": ROUTES[path][0], "port": "http"}
        assert request["path"] in OPEN_PATHS
    (port,) = container()["ports"]
    variables = {variable["name"]: variable["value"] for variable in container()["env"]}
    assert variables["COUTURECAST_HTTP"] == f"0.0.0.0:{port['containerPort']}"


def test_kubernetes_gives_a_blocked_process_the_time_to_name_its_handler() -> None:
    liveness = container()["livenessProbe"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] > LONGEST_TIMEOUT + 15


def test_a_pod_has_no_rights_and_writes_into_its_volumes_only() -> None:
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert str(pod()["securityContext"]["runAsUser"]) == dockerfile("USER")
    mounted = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
    assert mounted == {"data": "/data", "tmp": "/tmp"}
    assert set(mounted) == {volume["name"] for volume in pod()["volumes"]}


def test_the_variables_of_the_examples_are_settings() -> None:
    variables = [variable["name"] for variable in container()["env"]]
    assert unknown_variables([*variables, *compose()["environment"]]) == []


def test_service_and_disruption_budget_select_the_pods() -> None:
    labels = resources()["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert resources()["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert resources()["Service"]["spec"]["selector"] == labels
    assert resources()["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    (port,) = resources()["Service"]["spec"]["ports"]
    assert port["targetPort"] == container()["ports"][0]["name"]


def test_the_autoscaler_reads_a_field_of_a_route_without_a_token() -> None:
    scaled, service = resources()["ScaledObject"]["spec"], resources()["Service"]
    (trigger,) = scaled["triggers"]
    assert trigger["type"] == "metrics-api"
    url = urlsplit(trigger["metadata"]["url"])
    assert url.hostname == f"{service['metadata']['name']}.default.svc"
    assert url.port == service["spec"]["ports"][0]["port"]
    assert url.path in OPEN_PATHS
    assert trigger["metadata"]["valueLocation"] in Scaling.model_fields
    assert float(trigger["metadata"]["targetValue"]) == 1
    assert scaled["scaleTargetRef"]["name"] == resources()["Deployment"]["metadata"]["name"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (1, MAX_PROCESSES)


# containers


def test_the_image_and_compose_check_the_health_by_the_probe() -> None:
    _, _, command = dockerfile("HEALTHCHECK").partition("CMD ")
    assert json.loads(command) == ["couturecast-tui", "probe", "live"]
    assert compose()["healthcheck"]["test"] == ["CMD", "couturecast-tui", "probe", "ready"]


def test_compose_waits_longer_than_a_drain_takes_and_gives_no_rights() -> None:
    assert float(compose()["stop_grace_period"].removesuffix("s")) >= DRAIN_SECONDS + 10
    assert compose()["read_only"] is True
    assert compose()["cap_drop"] == ["ALL"]
