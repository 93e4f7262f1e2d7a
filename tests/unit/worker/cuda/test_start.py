"""What a worker of a GPU begins with."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from libs.common.causes import CauseKind
from libs.common.gpu_uuid import bare_uuid
from libs.common.states import FetchClass
from services.worker.agent.translate import start_frame
from services.worker.errors import DriverLacks, WeightsUnavailable
from services.worker.frames.dataplane import DataPlaneOptions
from services.worker.frames.frames import StartWorker
from services.worker.runtime.cuda.driver import Driver
from services.worker.runtime.cuda.libcuda import LibCuda, uuid_text
from services.worker.runtime.cuda.loading import DeviceLoading
from services.worker.runtime.cuda.start import start_loading
from services.worker.runtime.failure_causes import cause_of
from services.worker.runtime.start_steps import StartSteps
from tests.support.devices import GPU_UUID, gpu
from tests.support.fakecuda import FakeDriver
from tests.support.waiting import eventually
from tests.unit.worker.cuda.arriving import UnitMapperDouble
from tests.unit.worker.values import worker_spec

GPU = gpu()


def frame(mapper: UnitMapperDouble) -> StartWorker:
    spec = worker_spec()
    start = start_frame(spec, GPU, Path("/nowhere"), DataPlaneOptions())
    return replace(start, unit_digests=tuple(unit.digest for unit in mapper.units))


def unexpected(failure: WeightsUnavailable) -> None:
    pytest.fail(str(failure))


def begin(start: StartWorker, mapper: UnitMapperDouble, driver: Driver) -> DeviceLoading | None:
    steps = StartSteps(lambda step: None)
    return start_loading(start, mapper, steps, unexpected, load_driver=lambda: driver)


@pytest.mark.parametrize(
    ("fetch_class", "num_threads"), [(FetchClass.INTERACTIVE, 4), (FetchClass.BACKGROUND, 1)]
)
async def test_weights_that_nobody_waits_for_are_copied_in_the_background(
    fetch_class: FetchClass, num_threads: int
) -> None:
    mapper, driver = UnitMapperDouble(4096), FakeDriver()
    mapper.arrive()
    begin(replace(frame(mapper), fetch_class=fetch_class), mapper, driver)
    await eventually(lambda: driver.num_calls["create_stream"] == num_threads)
    assert driver.priorities == [fetch_class is FetchClass.INTERACTIVE] * num_threads


OTHER = "00000000-d72c-4106-c12f-20bd9faed9f6"


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param((OTHER,), id="another GPU"),
        pytest.param((bare_uuid(GPU_UUID), OTHER), id="more than one"),
        pytest.param((), id="none"),
    ],
)
async def test_nothing_is_allocated_on_a_gpu_that_the_plan_does_not_mean(
    shown: tuple[str, ...],
) -> None:
    mapper, driver, failures = (
        UnitMapperDouble(4096),
        FakeDriver(uuids=shown),
        list[WeightsUnavailable](),
    )
    steps = StartSteps(lambda step: None)

    start_loading(frame(mapper), mapper, steps, failures.append, load_driver=lambda: driver)

    await eventually(lambda: failures)
    cause = cause_of(failures[0])
    assert cause.kind is CauseKind.DEVICE_FAILED and GPU_UUID in str(cause.facts["detail"])
    assert driver.num_calls["open_context"] == driver.num_calls["allocate_device"] == 0


def test_a_uuid_is_written_as_nvidias_tools_write_it() -> None:
    octets = bytes.fromhex("8932f937d72c4106c12f20bd9faed9f6")
    assert f"GPU-{uuid_text(octets)}" == GPU_UUID


@pytest.mark.parametrize(
    "library",
    [
        pytest.param("libcuda-of-no-machine.so.1", id="no driver"),
        pytest.param("libc.so.6", id="a library without its functions"),
    ],
)
def test_without_a_driver_torch_copies_and_the_log_says_so(
    library: str, caplog: pytest.LogCaptureFixture
) -> None:
    mapper = UnitMapperDouble(4096)
    with caplog.at_level(logging.WARNING):
        loading = start_loading(
            *(frame(mapper), mapper, StartSteps(lambda step: None), unexpected),
            load_driver=lambda: LibCuda(library),
        )
    assert loading is None
    assert "torch will copy the weights" in caplog.text and "lib" in caplog.text


def test_a_library_that_is_not_there_is_named() -> None:
    with pytest.raises(DriverLacks, match="libcuda-of-no-machine"):
        LibCuda("libcuda-of-no-machine.so.1")
