"""What the compose file says of every service, those of the profiles included."""

from typing import Any

import pytest

from tests.acceptance.compose.engine import Project, why_unusable

ONE_SHOTS = {"nats-config", "bootstrap"}
OURS = "PROXY GATEWAY SCHEDULER FETCHER WORKER IMPORTER BOOTSTRAP".split()
KINDS = (*OURS, "NATS", "POSTGRES", "MINIO", "JAEGER", "PROMETHEUS", "GRAFANA")


@pytest.fixture(scope="module")
def engine_is_there() -> None:
    if (reason := why_unusable()) is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def services(engine_is_there: None) -> dict[str, Any]:
    return _services({})


def _services(options: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = Project("hydraserve-options", options).configuration()["services"]
    return found


def test_every_service_is_restarted_and_its_log_is_bounded(services: dict[str, Any]) -> None:
    assert {name for name, s in services.items() if s["restart"] != "unless-stopped"} == ONE_SHOTS
    for service in services.values():
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}


def test_every_service_has_a_memory_limit(services: dict[str, Any]) -> None:
    unlimited = {n for n, s in services.items() if int(_resources(s)["limits"]["memory"]) == 0}

    assert not unlimited


def test_no_service_has_capabilities_that_it_was_not_given(services: dict[str, Any]) -> None:
    for service in services.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not service.get("privileged")


def test_only_the_proxy_is_published_and_the_profiles_on_loopback(services: dict[str, Any]) -> None:
    hosts = {n: {p["host_ip"] for p in s["ports"]} for n, s in services.items() if s.get("ports")}

    assert hosts == {name: {"127.0.0.1"} for name in ("proxy", "jaeger", "grafana")}


def test_limits_of_memory_cores_links_and_requests_are_options(engine_is_there: None) -> None:
    limits = {f"{kind}_MEMORY": "3g" for kind in KINDS} | {f"{kind}_CPUS": "1.5" for kind in KINDS}
    links = {"NODE_NIC": "10M", "NODE_2_NIC": "20M", "IMPORTER_NIC": "30M"}

    services = _services({**limits, **links, "REQUEST_DEADLINE_S": "7200"})

    for name in services:
        found = _resources(services[name])["limits"]
        assert (int(found["memory"]), float(found["cpus"])) == (3 * 2**30, 1.5), name
    rates = {
        name: service["environment"]["HYDRA_NIC_BYTES_PER_S"]
        for name, service in services.items()
        if "HYDRA_NIC_BYTES_PER_S" in (service.get("environment") or {})
    }
    nodes = {"fetcher-0": "10M", "fetcher-1": "10M", "fetcher-2": "20M", "fetcher-3": "10M"}
    assert rates == nodes | {"importer": "30M"}
    assert services["gateway-1"]["environment"]["HYDRA_REQUEST_DEADLINE_S"] == "7200"


def test_the_file_for_gpus_gives_each_node_one(engine_is_there: None) -> None:
    project = Project("hydraserve-options", {"NODE_1_GPU": "7"}, more_files=("compose.gpu.yaml",))

    services = project.configuration()["services"]

    reserved = {
        name: [d["device_ids"] for d in found]
        for name, service in services.items()
        if (found := _resources(service).get("reservations", {}).get("devices"))
    }
    assert reserved == {
        "agent-0": [["0"]],
        "agent-1": [["7"]],
        "agent-2": [["2"]],
        "agent-3": [["3"]],
    }
    assert services["agent-0"]["environment"]["HYDRA_DEVICES"] == "cuda:0"
    assert services["agent-0"]["image"].startswith("hydraserve/worker-cuda:")


def _resources(service: dict[str, Any]) -> dict[str, Any]:
    resources: dict[str, Any] = service["deploy"]["resources"]
    return resources
