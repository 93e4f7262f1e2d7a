import pytest

from services.scheduler.simulation.cluster.device_ledger import DeviceLedger
from services.scheduler.simulation.cluster.memory_gauge import MemoryGauge
from services.scheduler.simulation.event_queue import EventQueue
from services.scheduler.simulation.results.costs import Costs
from services.scheduler.simulation.results.intervals import interval
from tests.unit.scheduler.values import worker


def test_what_is_in_use_counts_for_as_long_as_it_is() -> None:
    """100 B from 1 s, 150 B from 3 s, 50 B from 4 s until the end at 6 s: 200 + 150 + 100."""
    events = EventQueue()
    gauge = MemoryGauge(events)
    for at_s, more_bytes in ((1.0, 100), (3.0, 50), (4.0, -100)):
        events.run_until(at_s)
        gauge.change("model", more_bytes)
    events.run_until(6.0)
    gauge.close()
    assert gauge.byte_s == {"model": 450.0}


def test_what_is_free_again_counts_no_more() -> None:
    events = EventQueue()
    gauge = MemoryGauge(events)
    gauge.change("model", 10)
    events.run_until(2.0)
    gauge.change("model", -10)
    events.run_until(9.0)
    gauge.change("model", 5)
    events.run_until(10.0)
    gauge.close()
    assert gauge.byte_s == {"model": 25.0}


def test_host_memory_counts_by_its_price() -> None:
    """Devices 1,000 B s. Of hosts caches held 500 and standbys 200: at a tenth 70 more. Model A had
    one of four starts: 400 + 0.1 x (300 + 50)."""
    costs = Costs(
        {"a": 400.0, "b": 600.0}, {"a": 300.0, "b": 200.0}, {"a": 1, "b": 3}, 200.0, 0.1, 250.0
    )
    assert costs.total == pytest.approx(1_070)
    assert costs.of_model("a") == pytest.approx(435)
    assert costs.of_model("a") + costs.of_model("b") == pytest.approx(costs.total)
    assert costs.as_json()["starting_share"] == pytest.approx(0.25)


def test_a_start_counts_until_its_endpoint_serves_and_whole_if_it_never_does() -> None:
    """A: 100 B from 0 to 3 s, then served until 10 s. B: 50 B from 2 to 4 s, ended before."""
    ledger = DeviceLedger({("node-1", 0): 150})
    ledger.reserve(worker(id="a", device_bytes=100), "model", 0.0)
    ledger.reserve(worker(id="b", device_bytes=50), "model", 2.0)
    ledger.serve("a", 3.0)
    ledger.release("b", 4.0)
    ledger.close(10.0)
    assert ledger.starting_byte_s == 300 + 100
    assert ledger.byte_s == {"model": 1_100.0}


def test_an_interval_is_students() -> None:
    """Mean 3, standard deviation sqrt(2.5); of five values t is 2.776, so 2.776 x sqrt(2.5 / 5)."""
    found = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3.0
    assert found.half == pytest.approx(2.776 * 0.5**0.5)


def test_of_one_seed_there_is_no_interval() -> None:
    assert interval([2.0]).as_json() == {"mean": 2.0, "low": None, "high": None}
