import pytest

from services.scheduler.simulation.cluster.device_ledger import DeviceLedger
from services.scheduler.simulation.errors import SimulationError
from tests.unit.scheduler.values import worker


def test_memory_is_counted_from_the_reservation_to_the_release() -> None:
    """100 B for 5 s and 50 B until the end at 10 s, reserved at 2 s: 500 + 400."""
    ledger = DeviceLedger({("node-1", 0): 150})
    ledger.reserve(worker(id="a", device_bytes=100), "model", 0.0)
    ledger.reserve(worker(id="b", device_bytes=50), "model", 2.0)
    ledger.release("a", 5.0)
    ledger.close(10.0)
    assert ledger.byte_s == {"model": 900.0}
    assert not any(ledger.reserved_bytes.values())


def test_a_device_that_is_reserved_beyond_its_memory_ends_the_run() -> None:
    ledger = DeviceLedger({("node-1", 0): 150})
    ledger.reserve(worker(id="a", device_bytes=100), "model", 0.0)
    with pytest.raises(SimulationError, match="has 150 bytes, and 151 are reserved at 3"):
        ledger.reserve(worker(id="b", device_bytes=51), "model", 3.0)
