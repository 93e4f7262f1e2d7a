import asyncio
from pathlib import Path

import pytest

from libs.common.bus.messages import FetcherHeartbeat, HostCacheReport
from libs.common.causes import Cause, CauseKind
from libs.common.states import FetchState
from libs.common.testing.bus import FakeClock, MemoryBroker
from libs.common.testing.objectstore import MemoryObjectStore
from services.fetcher import heartbeat
from services.fetcher.desired import Signal
from services.fetcher.fetching.rate_meter import RateMeter
from services.fetcher.heartbeat import send_heartbeats
from tests.unit.fetcher.nodes import Node, running_node, stored_model
from tests.unit.fetcher.worlds import eventually


def told(broker: MemoryBroker) -> list[FetcherHeartbeat]:
    return [m for _, m in broker.published if isinstance(m, FetcherHeartbeat)]


def beat(node: Node, broker: MemoryBroker, health: Path) -> "asyncio.Task[None]":
    return asyncio.create_task(send_heartbeats(node.service, node.changed, broker.bus(), health))


async def test_what_is_complete_is_told_at_once_and_in_order(tmp_path: Path) -> None:
    broker, store, health = MemoryBroker(), MemoryObjectStore(), tmp_path / "healthy"
    model = await stored_model(store)
    async with running_node(tmp_path, store) as node:
        beating = beat(node, broker, health)
        await node.want(model.fetch())
        await eventually(lambda: any(h.host_cache.num_units == 5 for h in told(broker)))
        beating.cancel()

    sequence = [message.sequence for message in told(broker)]
    assert sequence == list(range(1, len(sequence) + 1))
    assert health.exists()


class Telling:
    """A fetcher whose progress and milestones the test decides."""

    def __init__(self) -> None:
        self.milestones, self._sequence = 0, 0

    def heartbeat(self) -> FetcherHeartbeat:
        self._sequence += 1
        report = HostCacheReport(version=0, since_version=0, num_units=0, set_digest="0" * 32)
        return FetcherHeartbeat(
            node_id="node-1",
            boot_id="boot-1",
            sequence=self._sequence,
            accepted_version=0,
            nic_bytes_per_s=0,
            measured_bytes_per_s=None,
            cache_capacity_bytes=0,
            cache_used_bytes=0,
            host_cache=report,
            fetches=(),
        )

    def was_sent(self, heartbeat: FetcherHeartbeat) -> None:
        pass


async def test_progress_waits_for_the_next_heartbeat_and_milestones_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "PERIOD_S", 3600.0)
    monkeypatch.setattr(heartbeat, "_PROGRESS_PERIOD_S", 3600.0)
    broker, telling, changed = MemoryBroker(), Telling(), Signal()
    sending = send_heartbeats(telling, changed, broker.bus(), tmp_path / "healthy")
    beating = asyncio.create_task(sending)
    await eventually(lambda: len(told(broker)) == 1)
    for _ in range(20):
        changed.notify()
        await asyncio.sleep(0.005)
    assert len(told(broker)) == 1

    telling.milestones = 1
    changed.notify()
    await eventually(lambda: len(told(broker)) == 2)
    beating.cancel()


async def test_progress_alone_is_told_a_little_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "PERIOD_S", 3600.0)
    broker, changed = MemoryBroker(), Signal()
    beating = asyncio.create_task(
        send_heartbeats(Telling(), changed, broker.bus(), tmp_path / "healthy")
    )
    await eventually(lambda: len(told(broker)) == 1)
    changed.notify()
    await eventually(lambda: len(told(broker)) == 2)
    beating.cancel()


async def test_nothing_is_buffered_while_the_bus_is_away(tmp_path: Path) -> None:
    broker, health = MemoryBroker(is_down=True), tmp_path / "healthy"
    async with running_node(tmp_path, MemoryObjectStore()) as node:
        beating = beat(node, broker, health)
        await eventually(health.exists)
        broker.is_down = False
        node.changed.notify()
        await eventually(lambda: bool(told(broker)))
        beating.cancel()

    assert told(broker)[0].sequence == 1


async def test_a_dropped_fetch_says_once_more_when_it_ended(tmp_path: Path) -> None:
    broker, store, health = MemoryBroker(), MemoryObjectStore(), tmp_path / "healthy"
    model = await stored_model(store, width=256)
    store.hold_after_bytes = 100_000
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch())
        await eventually(lambda: store.bytes_read > 100_000)
        await node.want()  # before any heartbeat
        store.release()
        await eventually(lambda: bool(node.service.heartbeat().fetches))
        beating = beat(node, broker, health)
        await eventually(lambda: bool(told(broker)) and not told(broker)[-1].fetches)
        beating.cancel()

    (ended,) = [fetch for message in told(broker) for fetch in message.fetches]
    assert (ended.state, ended.cause) == (FetchState.FAILED, Cause(CauseKind.NOBODY_WAITED))
    assert ended.steps[0].name == "fetch"
    assert all(step.ended_at is not None for step in ended.steps)


def test_the_measured_rate_is_that_of_the_time_in_which_fetches_ran() -> None:
    clock = FakeClock()
    meter = RateMeter(clock.monotonic_s)
    clock.advance(60)
    with meter.busy():
        clock.advance(0.1)
        meter.add(100)
        assert meter.bytes_per_s() is None  # too short to mean anything
        clock.advance(0.9)
        meter.add(400)
    clock.advance(60)

    assert meter.bytes_per_s() == pytest.approx(500)
    assert meter.bytes_per_s() == pytest.approx(500)  # the last one stays


def test_overlapping_fetches_are_measured_together() -> None:
    clock = FakeClock()
    meter = RateMeter(clock.monotonic_s)
    with meter.busy():
        clock.advance(1)
        with meter.busy():
            clock.advance(1)
            meter.add(1000)
    assert meter.bytes_per_s() == pytest.approx(500)
