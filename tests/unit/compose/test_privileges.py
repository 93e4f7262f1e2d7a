"""What the compose file gives each container: no more than it needs, and no way around that."""

from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # ships no types

FILE = Path(__file__).parents[3] / "deploy" / "compose" / "compose.yaml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
OURS = sorted(
    name
    for name, service in SERVICES.items()
    if service["image"].startswith("hydraserve/") and name != "proxy"
)
ON_THE_BUS = sorted(n for n in OURS if "HYDRA_NATS_URL" in SERVICES[n]["environment"])


@pytest.mark.parametrize("name", OURS)
def test_our_containers_are_unprivileged(name: str) -> None:
    service = SERVICES[name]

    assert service["user"].startswith("${HYDRA_UID:-10001}")
    assert service["cap_drop"] == ["ALL"] and "cap_add" not in service
    # Nothing about seccomp: the engine's own profile allows Landlock.
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not {"privileged", "group_add", "pid", "ipc"} & service.keys()


@pytest.mark.parametrize("name", ON_THE_BUS)
def test_what_runs_beside_a_service_cannot_look_into_it(name: str) -> None:
    assert SERVICES[name]["environment"]["HYDRA_FORBID_INSPECTION"] == "1"


def test_the_services_are_all_there() -> None:
    kinds = {name.rpartition("-")[0] or name for name in ON_THE_BUS}

    assert kinds == {"gateway", "scheduler", "fetcher", "agent", "importer"}


def test_foreign_files_are_never_parsed_unconfined() -> None:
    for name in OURS:
        assert "HYDRA_CONVERT_UNCONFINED" not in SERVICES[name]["environment"], name


def test_only_the_importer_has_the_key_that_writes() -> None:
    having = {
        name
        for name, service in SERVICES.items()
        for secret in service.get("secrets", [])
        if "s3-importer" in (secret if isinstance(secret, str) else secret["source"])
    }

    assert having == {"importer", "bootstrap"}
