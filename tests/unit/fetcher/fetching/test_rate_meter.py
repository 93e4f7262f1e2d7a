"""The measured rate: bytes over the time in which they were wanted, on a clock that tests move."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from libs.common.errors import ObjectStoreDown
from libs.common.objectstore.objectstore import RangeBody, RangeConnection, RangeSource
from libs.common.weights.manifest import ByteRange
from services.fetcher.fetching.rate_meter import RateMeter
from services.fetcher.fetching.transfer import Transfer
from tests.unit.fetcher.worlds import QUICK, World


@dataclass
class MovedClock:
    now_s: float = 100.0

    def monotonic_s(self) -> float:
        return self.now_s


@dataclass
class SlowSource:
    """A store that takes its time, on the moved clock: a second for each range, also for those that
    it refuses at first, and half a second for each read."""

    source: RangeSource
    clock: MovedClock
    num_refusals: int = 0
    num_reads: int = 0

    def connect(self) -> RangeConnection:
        return SlowConnection(self, self.source.connect())


@dataclass
class SlowConnection:
    store: SlowSource
    connection: RangeConnection

    def open_range(self, key: str, extent: ByteRange, object_size_bytes: int) -> RangeBody:
        self.store.clock.now_s += 1.0
        if self.store.num_refusals:
            self.store.num_refusals -= 1
            raise ObjectStoreDown("try again")
        body = self.connection.open_range(key, extent, object_size_bytes)
        return SlowBody(self.store, body)

    def close(self) -> None:
        self.connection.close()

    def abort(self) -> None:
        self.connection.abort()


@dataclass
class SlowBody:
    store: SlowSource
    body: RangeBody

    def readinto(self, buffer: memoryview) -> int:
        self.store.clock.now_s += 0.5
        self.store.num_reads += 1
        return self.body.readinto(buffer)


@dataclass
class Metered:
    clock: MovedClock = field(default_factory=MovedClock)

    def __post_init__(self) -> None:
        self.meter = RateMeter(self.clock.monotonic_s)

    def wanted(self, seconds: float, num_bytes: int) -> None:
        with self.meter.busy():
            self.clock.now_s += seconds
        self.meter.add(num_bytes)


def test_time_in_which_nobody_wants_bytes_does_not_count() -> None:
    metered = Metered()
    metered.wanted(1.0, 300)
    metered.clock.now_s += 50.0
    metered.wanted(1.0, 100)

    assert metered.meter.bytes_per_s() == 200  # 400 in 2 s


def test_connections_that_want_bytes_at_once_share_the_time() -> None:
    metered = Metered()
    with metered.meter.busy():
        metered.clock.now_s += 1.0
        metered.wanted(2.0, 300)
        metered.clock.now_s += 1.0
    metered.meter.add(100)

    assert metered.meter.bytes_per_s() == 100  # 400 in 4 s


def test_a_rate_stays_until_there_is_a_new_one_from_long_enough() -> None:
    metered = Metered()
    assert metered.meter.bytes_per_s() is None

    metered.wanted(0.125, 1000)
    assert metered.meter.bytes_per_s() is None  # too short
    metered.wanted(0.125, 1000)
    assert metered.meter.bytes_per_s() == 8000
    metered.wanted(0.125, 0)
    assert metered.meter.bytes_per_s() == 8000
    metered.wanted(29.875, 0)  # bytes were wanted, and none came: with the next one that shows
    metered.meter.add(300)
    assert metered.meter.bytes_per_s() == 10


async def test_connecting_and_trying_again_say_nothing_about_the_link(tmp_path: Path) -> None:
    world, clock = World(tmp_path), MovedClock()
    unit = await world.stored_unit(200_000)  # four chunks
    source, meter = SlowSource(world.store, clock, num_refusals=20), RateMeter(clock.monotonic_s)
    transfer = Transfer(source, world.governor, meter, num_connections=1, retry=QUICK)

    await transfer.run(world.fetch(world.download(unit)))

    assert world.is_genuine(unit)
    assert clock.now_s == 100 + 24 + source.num_reads / 2  # 20 refusals, 4 ranges
    assert meter.bytes_per_s() == pytest.approx(200_000 / (source.num_reads / 2))
