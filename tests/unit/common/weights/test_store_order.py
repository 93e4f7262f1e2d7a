"""Where weights may be shared without a barrier, and that both services refuse other machines."""

from pathlib import Path

import pytest

from libs.common.errors import UnsupportedMachine
from libs.common.settings import Environment
from libs.common.weights.store_order import require_store_order
from services.fetcher import bootstrap as fetcher
from services.fetcher.settings import FetcherSettings
from services.worker.agent import bootstrap as agent
from services.worker.agent.settings import AgentSettings

OTHERS = ["aarch64", "arm64", "ppc64le", "riscv64", "i686", ""]


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """Of both; nothing listens there."""
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    return Environment(
        {
            "HYDRA_NODE_ID": "node-0",
            "HYDRA_DEVICES": "cpu:512Mi:1",
            "HYDRA_SOCKET_DIR": str(tmp_path / "sockets"),
            "HYDRA_SCRATCH_DIR": str(tmp_path / "scratch"),
            "HYDRA_SHM_DIR": str(tmp_path / "units"),
            "HYDRA_RUN_DIR": str(tmp_path / "run"),
            "HYDRA_HEALTH_FILE": str(tmp_path / "health"),
            "HYDRA_NIC_BYTES_PER_S": "1M",
            "HYDRA_HOST_CACHE_BYTES": "1Mi",
            "HYDRA_S3_ENDPOINT": "http://127.0.0.1:1",
            "HYDRA_S3_BUCKET": "models",
            "HYDRA_S3_ACCESS_KEY_FILE": str(secret),
            "HYDRA_S3_SECRET_KEY_FILE": str(secret),
            "HYDRA_NATS_URL": "nats://127.0.0.1:1",
            "HYDRA_NATS_USER": "worker",
            "HYDRA_NATS_PASSWORD_FILE": str(secret),
        }
    )


@pytest.mark.parametrize("machine", ["x86_64", "AMD64", None])
def test_x86_64_keeps_the_order_of_stores(machine: str | None) -> None:
    """None: this one, or these tests would mean nothing."""
    require_store_order(machine)


@pytest.mark.parametrize("machine", OTHERS)
def test_other_machines_are_named_with_the_next_step(machine: str) -> None:
    said = (
        f"this machine is {machine or 'of an unknown kind'}: .* run fetchers and workers on x86-64"
    )
    with pytest.raises(UnsupportedMachine, match=said):
        require_store_order(machine)


async def test_a_fetcher_does_not_start_there(environment: Environment, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMachine, match="aarch64"):
        await fetcher.run(FetcherSettings.read(environment), machine="aarch64")
    assert not (tmp_path / "sockets").exists()


async def test_an_agent_does_not_start_there(environment: Environment, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMachine, match="aarch64"):
        await agent.run(AgentSettings.read(environment), machine="aarch64")
    assert not (tmp_path / "run").exists()
