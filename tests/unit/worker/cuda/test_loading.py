"""From unit files that arrive to the device, on a driver without one."""

import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from services.worker.errors import WeightsUnavailable
from services.worker.frames.frames import StepTaken
from services.worker.runtime.cuda.loading import AT_ONCE, IN_BACKGROUND, CopyPriority, DeviceLoading
from services.worker.runtime.cuda.staging import NUM_BUFFERS
from services.worker.runtime.start_steps import StartSteps
from tests.support.devices import GPU_UUID
from tests.support.fakecuda import ERROR_NAME, FUNCTIONS, FakeDriver
from tests.support.waiting import eventually
from tests.unit.worker.cuda.arriving import UnitMapperDouble

BUFFER_BYTES = 8192
OF_BUFFERS = {"create_stream", "allocate_host", "create_event"}
SIZES = (20_000, 4096, 1, 33_333)


class Loaded:
    """A loading of `mapper`, and what it says."""

    def __init__(
        self,
        mapper: UnitMapperDouble,
        driver: FakeDriver | None = None,
        *,
        pace: CopyPriority = AT_ONCE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.mapper, self.driver = mapper, driver or FakeDriver()
        self.steps: list[StepTaken] = []
        self.failures: list[str] = []
        self.failed = threading.Event()
        self.loading = DeviceLoading(
            self.driver,
            mapper,
            [unit.digest for unit in mapper.units],
            device_uuid=GPU_UUID,
            pace=pace,
            steps=StartSteps(self.steps.append),
            failed=self._fail,
            buffer_bytes=BUFFER_BYTES,
            sleep=sleep,
        )
        self.loading.start()

    def wait(self, index: int, timeout_s: float = 5.0) -> bytes:
        """What the device has of a unit that is said to be there."""
        unit, slab = self.mapper.units[index], self.loading.slab()
        assert slab is not None
        self.loading.wait(unit, time.monotonic() + timeout_s)
        return self.driver.bytes_at(
            slab.pointer + slab.layout.offsets[unit.digest], unit.size_bytes
        )

    def _fail(self, failure: WeightsUnavailable) -> None:
        self.failures.append(str(failure))
        self.failed.set()


@pytest.mark.parametrize("pace", [AT_ONCE, IN_BACKGROUND], ids=["at once", "in background"])
async def test_every_unit_is_on_the_device_when_it_is_said_to_be(pace: CopyPriority) -> None:
    mapper = UnitMapperDouble(*SIZES)
    loaded = Loaded(mapper, pace=pace)
    for index, reader in enumerate(mapper.readers):
        for _ in range(reader.unit.size_bytes // 4096 + 1):
            reader.arrive(4096)
        assert loaded.wait(index) == reader.content
    assert loaded.loading.is_complete
    assert loaded.driver.num_pending == 0
    assert loaded.driver.violations == [] and loaded.failures == []
    assert max(loaded.driver.copy_sizes) <= BUFFER_BYTES
    assert set(loaded.driver.priorities) == {pace.is_urgent}
    await eventually(
        lambda: {u.digest for u in mapper.released} == {u.digest for u in mapper.units}
    )


async def test_units_that_are_all_there_are_copied_by_several_threads() -> None:
    mapper = UnitMapperDouble(*(50_000,) * 20)
    mapper.arrive()
    loaded = Loaded(mapper)
    for index, reader in enumerate(mapper.readers):
        assert loaded.wait(index) == reader.content
    await eventually(lambda: loaded.driver.num_calls["create_stream"] == AT_ONCE.num_threads)
    assert loaded.driver.num_pending == 0
    assert loaded.driver.violations == []


async def test_a_unit_is_not_there_before_its_last_byte() -> None:
    mapper = UnitMapperDouble(8192, 8192)
    loaded = Loaded(mapper)
    mapper.readers[0].arrive(8191)
    with pytest.raises(WeightsUnavailable, match="of 8192 bytes of unit digest-0 are not there"):
        loaded.wait(0, timeout_s=0.05)
    mapper.readers[0].arrive(1)
    assert loaded.wait(0) == mapper.readers[0].content
    assert not loaded.loading.is_complete
    await eventually(lambda: [unit.digest for unit in mapper.released] == ["digest-0"])


async def test_the_timeline_has_the_context_the_copy_and_each_quarter() -> None:
    mapper = UnitMapperDouble(*SIZES)
    loaded = Loaded(mapper)
    mapper.arrive()
    loaded.wait(3)
    await eventually(lambda: loaded.steps[-1].name == "device_copy")
    ended = [step for step in loaded.steps if step.ended_at_s is not None]
    quarters = [f"device_copy.copied_{share}%" for share in (25, 50, 75, 100)]
    assert [step.name for step in ended] == ["device_context", *quarters, "device_copy"]
    assert all(a.ended_at_s <= b.ended_at_s for a, b in pairwise(ended))  # type: ignore[operator]  # they have ended
    assert len({step.started_at_s for step in ended[1:]}) == 1


@pytest.mark.parametrize("method", sorted(FUNCTIONS.keys() - OF_BUFFERS - {"enter"}))
def test_any_other_call_that_fails_ends_the_start_by_the_drivers_words(method: str) -> None:
    mapper = UnitMapperDouble(*SIZES)
    mapper.arrive()
    loaded = Loaded(mapper, FakeDriver(failing=method))
    assert loaded.failed.wait(5)
    assert f"{FUNCTIONS[method]}: {ERROR_NAME}" in loaded.failures[0]


@pytest.mark.parametrize("method", sorted(OF_BUFFERS))
def test_without_buffers_for_one_thread_the_copy_is_left_to_torch(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = Loaded(UnitMapperDouble(*SIZES), FakeDriver(failing=method))
    assert loaded.loading.slab() is None
    assert (
        f"torch will copy the weights, there are no buffers for it here: {FUNCTIONS[method]}"
        in (caplog.text)
    )
    assert loaded.failures == []
    assert loaded.driver.num_calls["allocate_device"] == 0, "memory that torch needs now"


@pytest.mark.parametrize("method", sorted(OF_BUFFERS | {"enter"}))
async def test_a_thread_without_buffers_or_context_leaves_the_copy_to_the_others(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    mapper = UnitMapperDouble(*SIZES)
    of_the_first = {"create_stream": 1, "enter": 0}.get(method, NUM_BUFFERS)
    loaded = Loaded(mapper, FakeDriver(failing=method, failing_call=of_the_first + 1))
    await eventually(lambda: "one thread less copies the weights" in caplog.text)
    mapper.arrive()
    for index, reader in enumerate(mapper.readers):
        assert loaded.wait(index) == reader.content
    assert loaded.failures == []


@pytest.mark.parametrize("method", ["open_context", "allocate_device"])
def test_who_waits_for_a_slab_that_never_comes_is_told_why(method: str) -> None:
    loaded = Loaded(UnitMapperDouble(*SIZES), FakeDriver(failing=method))
    with pytest.raises(WeightsUnavailable, match=ERROR_NAME):
        loaded.loading.slab()


def test_a_copy_that_fails_late_leaves_what_was_copied_before() -> None:
    mapper = UnitMapperDouble(*(BUFFER_BYTES,) * 3)
    loaded = Loaded(mapper, FakeDriver(failing="copy_to_device", failing_call=3))
    mapper.readers[0].arrive()
    assert loaded.wait(0) == mapper.readers[0].content
    mapper.arrive()
    with pytest.raises(WeightsUnavailable, match="cuMemcpyHtoDAsync_v2"):
        loaded.wait(1)
        loaded.wait(2)


def test_weights_that_cannot_be_mapped_fail_the_loading() -> None:
    mapper = UnitMapperDouble(4096)
    mapper.refusal = "no such fetch"
    loaded = Loaded(mapper)
    assert loaded.failed.wait(5)
    with pytest.raises(WeightsUnavailable, match="no such fetch"):
        loaded.loading.slab()


def test_bytes_that_never_come_fail_the_loading_at_the_deadline() -> None:
    loaded = Loaded(UnitMapperDouble(4096, patience_s=0.1))
    assert loaded.failed.wait(5)
    assert "deadline passed" in loaded.failures[0]


def test_in_the_background_it_rests_after_each_piece() -> None:
    mapper, rests_s = UnitMapperDouble(*(BUFFER_BYTES,) * 4), list[float]()
    mapper.arrive()
    loaded = Loaded(mapper, pace=IN_BACKGROUND, sleep=rests_s.append)
    loaded.wait(3)
    assert len(rests_s) >= 3 and all(rest_s > 0 for rest_s in rests_s)
    assert loaded.driver.num_calls["create_stream"] == 1


def test_what_is_waited_for_never_rests() -> None:
    mapper, rests_s = UnitMapperDouble(*(BUFFER_BYTES,) * 4), list[float]()
    mapper.arrive()
    Loaded(mapper, sleep=rests_s.append).wait(3)
    assert rests_s == []
