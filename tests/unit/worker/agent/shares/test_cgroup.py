"""Cgroups of version 2, in a folder that looks like the kernel's."""

import os
import shutil
from pathlib import Path

import pytest

from services.worker.agent.shares.cgroup import (
    CgroupShares,
    cpu_max,
    cpu_weight,
    open_cgroup,
    own_cgroup,
)
from services.worker.agent.shares.cpu_shares import CpuShare
from services.worker.errors import CgroupUnavailable

MEMBERSHIP = "12:cpuset:/\n0::/system.slice/agent.service\n"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "system.slice" / "agent.service"
    folder.mkdir(parents=True)
    (folder / "cgroup.controllers").write_text("cpuset cpu memory\n")
    return folder


def remove(folder: Path) -> None:
    """The kernel removes a cgroup with its files."""
    shutil.rmtree(folder)


def busy(folder: Path) -> None:
    raise OSError(16, "Device or resource busy")


def share(worker_id: str, weight: float, pid: int = 4711) -> CpuShare:
    return CpuShare(worker_id, pid, weight, cap_cores=2 * weight)


def test_the_agents_own_cgroup_is_found(own: Path, tmp_path: Path) -> None:
    assert own_cgroup(MEMBERSHIP, tmp_path) == own


@pytest.mark.parametrize(
    ("membership", "controllers", "why"),
    [
        pytest.param("1:cpu:/\n", "cpu", "no cgroups of version 2", id="version 1 alone"),
        pytest.param(MEMBERSHIP, "memory pids", "no cpu controller", id="not delegated"),
        pytest.param(
            "0::/elsewhere\n", "cpu", "no cgroup of version 2 at", id="hidden by the container"
        ),
    ],
)
def test_without_a_cgroup_it_is_said_why(
    own: Path, tmp_path: Path, membership: str, controllers: str, why: str
) -> None:
    (own / "cgroup.controllers").write_text(controllers)

    with pytest.raises(CgroupUnavailable, match=why):
        own_cgroup(membership, tmp_path)


def test_the_agent_moves_into_a_cgroup_of_its_own_and_hands_out_the_rest(own: Path) -> None:
    node = open_cgroup(own, "node-0", remove)

    assert node == own / "hydra-node-0"
    assert (node / "hydra.agent" / "cgroup.procs").read_text() == str(os.getpid())
    assert (node / "hydra.agent" / "cpu.weight").read_text() == "10000"
    assert (own / "cgroup.subtree_control").read_text() == "+cpu"
    assert (node / "cgroup.subtree_control").read_text() == "+cpu"


def test_beside_other_processes_the_agent_goes_back_to_where_it_was(own: Path) -> None:
    (own / "cgroup.subtree_control").mkdir()  # cannot be written to, as with processes in `own`

    with pytest.raises(CgroupUnavailable, match="no cgroup can be made"):
        open_cgroup(own, "node-0", remove)

    assert (own / "cgroup.procs").read_text() == str(os.getpid())
    assert not (own / "hydra-node-0").exists()


def test_a_cgroup_that_was_to_hand_out_its_processors_does_so_no_more_when_the_agent_goes_back(
    own: Path,
) -> None:
    (own / "hydra-node-0" / "hydra.agent" / "cpu.weight").mkdir(parents=True)  # the last step

    with pytest.raises(CgroupUnavailable, match="no cgroup can be made"):
        open_cgroup(own, "node-0", remove)

    assert (own / "cgroup.subtree_control").read_text() == "-cpu"
    assert (own / "cgroup.procs").read_text() == str(os.getpid())
    assert not (own / "hydra-node-0").exists()


def test_what_an_earlier_agent_left_is_removed(own: Path) -> None:
    left = own / "hydra-node-0" / "worker-old"
    left.mkdir(parents=True)

    open_cgroup(own, "node-0", remove)

    assert not left.exists()


def test_a_worker_gets_a_cgroup_with_its_weight_and_no_cap(tmp_path: Path) -> None:
    CgroupShares(tmp_path, are_caps=False, remove=remove).apply([share("worker-a", 0.25)])

    folder = tmp_path / "worker-a"
    assert (folder / "cpu.weight").read_text() == "2500"
    assert (folder / "cgroup.procs").read_text() == "4711"
    assert not (folder / "cpu.max").exists()


def test_with_caps_it_gets_no_more_than_its_cores(tmp_path: Path) -> None:
    CgroupShares(tmp_path, are_caps=True, remove=remove).apply([share("worker-a", 0.25)])

    assert (tmp_path / "worker-a" / "cpu.max").read_text() == "50000 100000"  # half a core


def test_a_worker_that_could_not_join_its_cgroup_does_so_later_and_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "worker-a" / "cgroup.procs"
    blocked.mkdir(parents=True)  # it cannot be written to
    shares = CgroupShares(tmp_path, are_caps=False, remove=remove)
    for weight in (0.25, 0.25, 0.5):
        shares.apply([share("worker-a", weight)])
    assert len(caplog.records) == 1
    assert (tmp_path / "worker-a" / "cpu.weight").read_text() == "5000"

    blocked.rmdir()
    shares.apply([share("worker-a", 0.5)])

    assert blocked.read_text() == "4711"


def test_a_changed_reservation_changes_the_weight_and_moves_no_process(tmp_path: Path) -> None:
    shares = CgroupShares(tmp_path, are_caps=False, remove=remove)
    shares.apply([share("worker-a", 0.25)])
    (tmp_path / "worker-a" / "cgroup.procs").unlink()

    shares.apply([share("worker-a", 0.5)])

    assert (tmp_path / "worker-a" / "cpu.weight").read_text() == "5000"
    assert not (tmp_path / "worker-a" / "cgroup.procs").exists()


def test_the_cgroup_of_an_ended_worker_is_removed_once_nothing_is_left_in_it(
    tmp_path: Path,
) -> None:
    removes = [busy, remove]
    shares = CgroupShares(tmp_path, are_caps=False, remove=lambda path: removes.pop(0)(path))
    shares.apply([share("worker-a", 0.25)])

    shares.apply([])
    assert (tmp_path / "worker-a").exists()
    shares.apply([])
    assert not (tmp_path / "worker-a").exists()
    shares.apply([])  # and never again

    assert removes == []


def test_a_worker_that_gets_no_cgroup_costs_the_others_nothing_and_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "worker-a").write_text("in the way")
    shares = CgroupShares(tmp_path, are_caps=False, remove=remove)

    for _ in range(2):
        shares.apply([share("worker-a", 0.25), share("worker-b", 0.5)])

    assert (tmp_path / "worker-b" / "cpu.weight").read_text() == "5000"
    assert [record.message for record in caplog.records if "worker-a" in record.message] != []
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("weight", "written"), [(1.0, 10_000), (0.5, 5_000), (0.00001, 1), (1.5, 10_000)]
)
def test_weights_are_what_the_kernel_takes(weight: float, written: int) -> None:
    assert cpu_weight(weight) == written


@pytest.mark.parametrize(
    ("cores", "written"),
    [(1.0, "100000 100000"), (2.5, "250000 100000"), (0.001, "1000 100000")],
)
def test_caps_are_what_the_kernel_takes(cores: float, written: str) -> None:
    assert cpu_max(cores) == written
