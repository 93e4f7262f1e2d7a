"""The driver by ctypes, against C functions with the prototypes of cuda.h."""

import threading
import time

import pytest

from libs.common.gpu_uuid import bare_uuid
from services.worker.errors import DriverError, DriverLacks, WeightsUnavailable
from services.worker.runtime.cuda.libcuda import LibCuda
from services.worker.runtime.cuda.loading import AT_ONCE, IN_BACKGROUND, CopyPriority, DeviceLoading
from services.worker.runtime.start_steps import StartSteps
from tests.support.devices import GPU_UUID
from tests.support.fakecuda import FakeDriver
from tests.support.fakelibcuda import LibCudaDouble
from tests.unit.worker.cuda.arriving import UnitMapperDouble

SIZES = (3 * 4096, 100, 9 * 4096 + 17)


def library(driver: FakeDriver) -> LibCuda:
    double = LibCudaDouble(driver)
    return LibCuda(load=lambda name: double)


@pytest.mark.parametrize("pace", [AT_ONCE, IN_BACKGROUND], ids=["at once", "in background"])
def test_weights_reach_the_device_by_calls_that_c_takes(pace: CopyPriority) -> None:
    mapper, driver = UnitMapperDouble(*SIZES), FakeDriver()
    mapper.arrive()
    failures: list[WeightsUnavailable] = []
    loading = DeviceLoading(
        library(driver),
        mapper,
        [unit.digest for unit in mapper.units],
        device_uuid=GPU_UUID,
        pace=pace,
        steps=StartSteps(lambda step: None),
        failed=failures.append,
        buffer_bytes=4096,
        sleep=lambda seconds: None,
    )
    loading.start()

    slab = loading.slab()
    assert slab is not None and failures == []
    for reader in mapper.readers:
        loading.wait(reader.unit, time.monotonic() + 10)
        pointer = slab.pointer + slab.layout.offsets[reader.unit.digest]
        assert driver.bytes_at(pointer, reader.unit.size_bytes) == reader.content
    assert driver.violations == []
    assert set(driver.priorities) == {pace.is_urgent}


def test_the_gpus_that_are_shown_are_told_by_their_uuids() -> None:
    shown = (bare_uuid(GPU_UUID), "00000000-0000-4000-8000-0000000000ff")
    assert library(FakeDriver(uuids=shown)).visible_uuids() == shown
    assert library(FakeDriver(uuids=())).visible_uuids() == ()


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("allocate_device", "cuMemAlloc_v2"),
        ("allocate_host", "cuMemHostAlloc"),
        ("create_event", "cuEventCreate"),
    ],
)
def test_an_error_has_the_functions_and_the_drivers_names(method: str, call: str) -> None:
    cuda = library(FakeDriver(failing=method))
    cuda.open_context()
    arguments = () if method == "create_event" else (64,)
    with pytest.raises(DriverError, match=f"{call}: CUDA_ERROR_UNKNOWN") as caught:
        getattr(cuda, method)(*arguments)
    assert (caught.value.call, caught.value.name) == (call, "CUDA_ERROR_UNKNOWN")


def test_nothing_works_before_the_context_is_open() -> None:
    with pytest.raises(DriverError, match="cuMemAlloc_v2: CUDA_ERROR_NOT_INITIALIZED"):
        library(FakeDriver()).allocate_device(64)


def test_a_thread_enters_the_context_that_another_opened() -> None:
    driver = FakeDriver()
    cuda = library(driver)
    cuda.open_context()

    def work() -> None:
        cuda.enter()
        cuda.create_event()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert driver.violations == [] and driver.num_calls["create_event"] == 1


def test_a_driver_without_a_function_is_none() -> None:
    double = LibCudaDouble(FakeDriver())
    del double.cuDeviceGetUuid_v2  # of drivers before 11.4
    with pytest.raises(DriverLacks, match="cuDeviceGetUuid_v2"):
        LibCuda(load=lambda name: double)
