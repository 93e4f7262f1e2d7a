"""Weights from real unit files, over a real socket, to tensors on the CPU."""

import ctypes
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from libs.common.modelconfig.parts import Weight
from libs.common.weights.manifest import UnitKind
from libs.common.weights.unitclient import WantedUnits
from libs.common.weights.unitheader import UnitError
from services.worker.engine.model.weights import UnitKey
from services.worker.engine.model.weights import UnitReader as Weights
from services.worker.errors import WeightsUnavailable
from services.worker.frames.frames import StepTaken
from services.worker.runtime.cuda.driver import Driver
from services.worker.runtime.cuda.libcuda import LibCuda
from services.worker.runtime.cuda.loading import AT_ONCE, DeviceLoading
from services.worker.runtime.parameters import ParameterManager
from services.worker.runtime.placement import (
    DevicePlacement,
    HostPlacement,
    Placement,
    SlabPlacement,
)
from services.worker.runtime.stage_assembly import placement_on
from services.worker.runtime.start_steps import StartSteps
from services.worker.runtime.unit_mapper import UnitMapper
from tests.integration.worker.tiny import TinyModel, Unit, UnitFolder
from tests.integration.worker.unitservers import UnitServerDouble
from tests.support.fakecuda import FakeDriver
from tests.support.waiting import eventually

EMBEDDING, LAYER_0 = UnitKey(UnitKind.EMBEDDING), UnitKey(UnitKind.LAYER, 0)


class Fed:
    """A unit mapper whose failures are remembered."""

    def __init__(self, tmp_path: Path, placed: "Placing | None" = None) -> None:
        self.steps: list[StepTaken] = []
        self.failures: list[str] = []
        self.failed = threading.Event()
        self.mapper = UnitMapper(
            tmp_path / "fetcher.sock",
            WantedUnits("0" * 64, ("1" * 64,)),
            deadline_s=time.monotonic() + 20,
            steps=StartSteps(self.steps.append),
            failed=self.fail,
        )
        self.mapper.start()
        placement = (placed or in_shared_memory)(self)
        self.parameters = ParameterManager(self.mapper, placement)

    def until_watched(self) -> None:
        """The mapper has seen every byte and looks at no file any more."""
        deadline_s = time.monotonic() + 5
        while not any(s.name == "weights" and s.ended_at_s is not None for s in self.steps):
            assert time.monotonic() < deadline_s
            time.sleep(0.001)

    def fail(self, failure: WeightsUnavailable) -> None:
        self.failures.append(str(failure))
        self.failed.set()


@pytest.fixture(scope="module")
def model() -> TinyModel:
    return TinyModel()


@pytest.fixture
def folder(tmp_path: Path, model: TinyModel) -> Iterator[UnitFolder]:
    folder = UnitFolder(tmp_path / "units", model)
    with UnitServerDouble(tmp_path, folder):
        yield folder


Placing = Callable[[Fed], Placement]


def in_shared_memory(fed: Fed) -> Placement:
    return HostPlacement(fed.mapper)


def copied_by_torch(device: str) -> Placing:
    return lambda fed: DevicePlacement(fed.mapper, torch.device(device))


def in_a_slab(fed: Fed) -> Placement:
    return slab_of(loading(fed, FakeDriver()), host_view)


def in_a_slab_of_the_gpu(fed: Fed) -> Placement:
    return slab_of(loading(fed, LibCuda()))


def slab_of(
    loading: DeviceLoading, view: Callable[[int, int], torch.Tensor] | None = None
) -> Placement:
    slab = loading.slab()
    assert slab is not None
    return SlabPlacement(loading, slab, view)


def left_to_torch(fed: Fed) -> Placement:
    """Shared memory, as there is no slab and this device is a CPU."""
    loading_without_buffers = loading(fed, FakeDriver(failing="allocate_host"))
    return placement_on(torch.device("cpu"), fed.mapper, loading_without_buffers)


def loading(fed: Fed, driver: Driver) -> DeviceLoading:
    digests = [unit.digest for unit in fed.mapper.manifest().units]
    steps = StartSteps(fed.steps.append)
    loading = DeviceLoading(driver, fed.mapper, digests, pace=AT_ONCE, steps=steps, failed=fed.fail)
    loading.start()
    return loading


def host_view(pointer: int, num_bytes: int) -> torch.Tensor:
    """The fake driver's device memory is the host's."""
    return torch.frombuffer((ctypes.c_ubyte * num_bytes).from_address(pointer), dtype=torch.uint8)


PLACEMENTS = [
    pytest.param(in_shared_memory, id="shared memory"),
    pytest.param(in_a_slab, id="a slab"),
    pytest.param(copied_by_torch("cpu"), id="a copy"),
    pytest.param(left_to_torch, id="no page-locked memory"),
    pytest.param(in_a_slab_of_the_gpu, id="a slab of the GPU", marks=pytest.mark.gpu),
    pytest.param(copied_by_torch("cuda:0"), id="a copy on the GPU", marks=pytest.mark.gpu),
]


@pytest.mark.parametrize("placing", PLACEMENTS)
def test_every_tensor_is_what_was_stored(
    tmp_path: Path, model: TinyModel, folder: UnitFolder, placing: Placing
) -> None:
    folder.fill()
    parameters = Fed(tmp_path, placing).parameters
    for unit in model.units:
        key = UnitKey(unit.entry.kind, unit.entry.layer_index)
        parameters.wait_unit(key, 5)
        for entry in unit.entry.tensors:
            tensor = parameters.tensor(key, entry.name).cpu()
            assert torch.equal(tensor, model.state[entry.name])


def test_a_tensor_is_a_view_of_shared_memory_and_not_a_copy(
    tmp_path: Path, folder: UnitFolder
) -> None:
    folder.fill()
    parameters = Fed(tmp_path).parameters
    parameters.wait_unit(EMBEDDING, 5)
    address = parameters.tensor(EMBEDDING, "model.embed_tokens.weight").data_ptr()
    assert _mapping_of(address).endswith("r--s")


@pytest.mark.parametrize(
    ("placing", "has_lease"),
    [
        pytest.param(in_shared_memory, True, id="in shared memory"),
        pytest.param(in_a_slab, False, id="in a slab"),
        pytest.param(copied_by_torch("cpu"), False, id="copied"),
    ],
)
async def test_a_unit_is_leased_for_as_long_as_its_file_is_used(
    tmp_path: Path, model: TinyModel, folder: UnitFolder, placing: Placing, has_lease: bool
) -> None:
    folder.fill()
    fed = Fed(tmp_path, placing)
    for unit in model.units:
        fed.parameters.wait_unit(UnitKey(unit.entry.kind, unit.entry.layer_index), 5)
    fed.until_watched()

    if has_lease:
        assert not _is_free(folder, model.units[0])
    else:
        await eventually(lambda: _is_free(folder, model.units[0]))


def test_query_key_and_value_are_one_matrix_without_a_copy(
    tmp_path: Path, model: TinyModel, folder: UnitFolder
) -> None:
    folder.fill()
    parameters = Fed(tmp_path).parameters
    parameters.wait_unit(LAYER_0, 5)
    names = [f"model.layers.0.self_attn.{part}_proj.weight" for part in "qkv"]

    weights = [Weight(name, (rows, 32)) for name, rows in zip(names, (32, 16, 16), strict=True)]
    fused = Weights(parameters, LAYER_0, torch.float32).stacked(weights)

    assert fused.data_ptr() == parameters.tensor(LAYER_0, names[0]).data_ptr()
    assert torch.equal(fused, torch.cat([model.state[name] for name in names]))


@pytest.mark.parametrize("placing", PLACEMENTS)
def test_waiting_for_a_unit_ends_when_its_last_byte_is_there(
    tmp_path: Path, model: TinyModel, folder: UnitFolder, placing: Placing
) -> None:
    parameters = Fed(tmp_path, placing).parameters
    waiting = threading.Thread(target=parameters.wait_unit, args=(LAYER_0, 20))
    waiting.start()
    folder.fill(model.units[0])
    waiting.join(0.05)
    assert waiting.is_alive()
    folder.fill(model.units[1])
    waiting.join(5)
    assert not waiting.is_alive()


def test_a_unit_that_does_not_come_in_time_is_unavailable(
    tmp_path: Path, model: TinyModel, folder: UnitFolder
) -> None:
    fed = Fed(tmp_path)
    fed.mapper.mapped(model.units[1].entry, 5)
    with pytest.raises(WeightsUnavailable, match=r"0 of \d+ bytes"):
        fed.parameters.wait_unit(LAYER_0, 0.1)


def test_a_unit_that_the_fetcher_gave_up_is_unavailable_and_says_why(
    tmp_path: Path, model: TinyModel, folder: UnitFolder
) -> None:
    folder.fill(model.units[0])
    fed = Fed(tmp_path)
    folder.writers[model.units[1].entry.digest].fail(UnitError.DIGEST_MISMATCH)
    with pytest.raises(WeightsUnavailable, match="do not match their digest"):
        fed.parameters.wait_unit(LAYER_0, 5)
    assert fed.failed.wait(5)
    assert "do not match their digest" in fed.failures[0]


async def test_a_unit_that_arrives_is_seen_without_waiting(
    tmp_path: Path, folder: UnitFolder, model: TinyModel
) -> None:
    fed, unit = Fed(tmp_path), model.units[0]
    assert fed.mapper.arrived(unit.entry) is None
    folder.fill(unit)
    await eventually(lambda: fed.mapper.arrived(unit.entry) is not None)


async def test_a_mapper_that_nobody_needs_ends_its_waits_and_its_leases(
    tmp_path: Path, folder: UnitFolder, model: TinyModel
) -> None:
    fed, unit = Fed(tmp_path), model.units[0]
    fed.mapper.mapped(unit.entry, 5)
    fed.mapper.close()
    with pytest.raises(WeightsUnavailable, match="nobody needs these weights"):
        fed.mapper.arrived(unit.entry)
    await eventually(lambda: _is_free(folder, unit))


def test_a_layer_that_the_model_has_not_is_unavailable(tmp_path: Path, folder: UnitFolder) -> None:
    folder.fill()
    with pytest.raises(WeightsUnavailable, match="no unit"):
        Fed(tmp_path).parameters.wait_unit(UnitKey(UnitKind.LAYER, 9), 1)


def test_a_write_to_a_weight_ends_the_process_and_leaves_the_weight(
    tmp_path: Path, model: TinyModel, folder: UnitFolder
) -> None:
    folder.fill()
    digest = model.units[0].entry.digest
    code = (
        "import sys, os\n"
        "from libs.common.weights.unitfile import UnitReader\n"
        "from services.worker.runtime.placement import host_bytes\n"
        "descriptor = os.open(sys.argv[1], os.O_RDONLY)\n"
        "unit = UnitReader(descriptor, digest=sys.argv[2], size_bytes=int(sys.argv[3]))\n"
        "host_bytes(unit)[0] = 1\n"
    )
    arguments = [str(tmp_path / "units" / digest), digest, str(model.units[0].entry.size_bytes)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], timeout=120, check=False)
    assert done.returncode == -11
    with open(folder.open(digest), "rb") as file:
        assert file.read().endswith(model.units[0].data)


def _is_free(folder: UnitFolder, unit: Unit) -> bool:
    """Whether nobody holds the unit's file, so that the fetcher may remove it."""
    descriptor = folder.open(unit.entry.digest)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _mapping_of(address: int) -> str:
    """Permissions of the mapping that holds an address, as /proc writes them."""
    with open(f"/proc/{os.getpid()}/maps") as maps:
        for line in maps:
            extent, permissions, *_ = line.split()
            start, end = (int(part, 16) for part in extent.split("-"))
            if start <= address < end:
                return permissions
    raise AssertionError("not mapped")
