"""Which part of a node's processor each of its workers shall have."""

from typing import Any

import pytest

from services.worker.agent.devices.device import Device
from services.worker.agent.settings import DeviceKind
from services.worker.agent.shares.cpu_shares import RunningShare, cpu_shares

MEMORY_BYTES = 1000
DEVICE = Device(0, DeviceKind.CPU, None, MEMORY_BYTES, cores=4)


def running(worker_id: str, device_bytes: int, **changes: Any) -> RunningShare:
    values = {"pid": 1, "device": DEVICE, "is_starting": False, **changes}
    return RunningShare(worker_id, device_bytes=device_bytes, **values)


def weights(*workers: RunningShare, node_cores: int = 4) -> dict[str, float]:
    return {s.worker_id: s.weight for s in cpu_shares(workers, node_cores)}


def test_compute_follows_memory() -> None:
    assert weights(running("a", 750), running("b", 250)) == {"a": 0.75, "b": 0.25}


def test_a_worker_that_starts_counts_as_much_as_the_largest_on_its_device() -> None:
    other = Device(1, DeviceKind.CPU, None, MEMORY_BYTES, cores=4)
    workers = (
        running("large", 500),
        running("small", 100),
        running("starts", 50, is_starting=True),
        running("elsewhere", 900, device=other),
    )

    # Of eight cores each device has four: 0.5 x 4 / 8, 0.1 x 4 / 8, 0.9 x 4 / 8.
    assert weights(*workers, node_cores=8) == {
        "large": 0.25,
        "small": 0.05,
        "starts": 0.25,
        "elsewhere": 0.45,
    }


def test_a_worker_that_starts_alone_weakens_nobody_who_is_larger() -> None:
    assert weights(running("starts", 500, is_starting=True), running("b", 100)) == {
        "starts": 0.5,
        "b": 0.1,
    }


@pytest.mark.parametrize(
    ("device_bytes", "cores"),
    [
        pytest.param(250, 1.0, id="a quarter of four cores"),
        pytest.param(1200, 4.0, id="never more than the device has"),
    ],
)
def test_a_cap_is_the_share_of_the_devices_cores_from_the_start(
    device_bytes: int, cores: float
) -> None:
    large = running("large", 1000)
    (share, _) = cpu_shares((running("a", device_bytes, is_starting=True), large), 4)

    assert share.cap_cores == cores
