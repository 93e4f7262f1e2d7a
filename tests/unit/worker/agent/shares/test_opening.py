"""How a node finds out by what its workers can have shares."""

import logging
from pathlib import Path

import pytest

from libs.common.errors import SettingsError
from services.worker.agent.devices.device import Device
from services.worker.agent.settings import AgentSettings, ComputeShares
from services.worker.agent.shares.cgroup import CgroupShares
from services.worker.agent.shares.nice import NiceShares
from services.worker.agent.shares.node_compute import NodeCompute
from services.worker.agent.shares.opening import open_node_compute
from tests.support.devices import cpu, gpu
from tests.unit.worker.agent.test_settings import environment

CAPS = {"HYDRA_COMPUTE_SHARES": "caps"}


class Machine:
    """Its cgroups, and the pipes of CUDA's Multi-Process Service."""

    def __init__(self, tmp_path: Path) -> None:
        self._tmp_path = tmp_path
        self._root, self._pipes = tmp_path / "cgroup", tmp_path / "mps"
        self._membership = tmp_path / "membership"
        for folder in (self._root, self._pipes):
            folder.mkdir()
        self._membership.write_text("0::/\n")

    def delegate(self) -> None:
        (self._root / "cgroup.controllers").write_text("cpu\n")

    def start_mps(self) -> None:
        (self._pipes / "control").touch()

    def open(self, device: Device, **settings: str) -> NodeCompute:
        return open_node_compute(
            AgentSettings.read(environment(self._tmp_path, **settings)),
            (device,),
            {"CUDA_MPS_PIPE_DIRECTORY": str(self._pipes)},
            self._root,
            self._membership,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_cgroup_is_used_where_one_can_be_made(machine: Machine) -> None:
    machine.delegate()

    assert isinstance(machine.open(cpu()).cpu, CgroupShares)


def test_without_a_cgroup_nice_values_are_used_and_one_line_says_so(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    assert isinstance(machine.open(cpu()).cpu, NiceShares)

    (line,) = (record.message for record in caplog.records)
    assert line.startswith("workers share the processor by nice values: there is no cgroup")


def test_caps_without_a_cgroup_stop_the_start_and_say_what_to_do(machine: Machine) -> None:
    with pytest.raises(SettingsError) as caught:
        machine.open(cpu(), **CAPS)

    assert caught.value.key == "HYDRA_COMPUTE_SHARES"
    assert "is 'caps'; expected weights, or, for caps, a cgroup (version 2)" in str(caught.value)
    assert "Delegate=cpu" in str(caught.value)


def test_caps_on_a_gpu_need_the_multi_process_service(machine: Machine) -> None:
    machine.delegate()
    with pytest.raises(SettingsError, match="nvidia-cuda-mps-control -d"):
        machine.open(gpu(), **CAPS)

    machine.start_mps()

    compute = machine.open(gpu(), **CAPS)
    assert compute.are_caps and compute.mps_pipes is not None


def test_shares_are_weights_unless_it_is_said_otherwise(tmp_path: Path) -> None:
    settings = AgentSettings.read(environment(tmp_path))
    assert settings.compute_shares is ComputeShares.WEIGHTS

    with pytest.raises(SettingsError, match="expected one of weights, caps"):
        AgentSettings.read(environment(tmp_path, HYDRA_COMPUTE_SHARES="quotas"))
