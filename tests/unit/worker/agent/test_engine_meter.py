"""What an agent tells of engines, by what its workers have shown."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from libs.common.bus.messages import EngineObserved
from libs.common.engines import CONTEXT_BYTES, PRIORS
from libs.common.states import EngineKind
from libs.common.testing.bus import FakeClock
from services.worker.agent.engine_meter import BYTES_STEP, EngineMeter
from services.worker.agent.processes.supervised import SupervisedWorker
from services.worker.agent.processes.watchdog import WatchdogLimits
from services.worker.agent.translate import start_frame
from services.worker.frames.dataplane import DataPlaneOptions
from services.worker.frames.frames import Origin, Ready, Registered, StatsChanged, StepTaken
from tests.support.devices import cpu
from tests.support.waiting import eventually
from tests.unit.worker.fakes import FakeLauncher, FakeProcess
from tests.unit.worker.values import worker_spec

DEVICE = cpu()
STAGE = EngineKind.STAGE
PRIOR_BYTES = PRIORS[STAGE].worker_bytes - CONTEXT_BYTES


def launch_ms(meter: EngineMeter) -> int | None:
    (told,) = meter.observed()
    return told.launch_ms


def worker_bytes(meter: EngineMeter) -> int:
    (told,) = meter.observed()
    assert told.worker_bytes is not None
    return told.worker_bytes - CONTEXT_BYTES


def test_who_has_measured_nothing_tells_nothing() -> None:
    assert EngineMeter().observed() == ()


def test_the_first_launch_counts_whole_and_later_ones_by_their_weight() -> None:
    meter = EngineMeter()
    meter.note_launch(STAGE, 2.0)
    assert launch_ms(meter) == 2000

    meter.note_launch(STAGE, 6.0)
    assert launch_ms(meter) == 3000
    for _ in range(30):
        meter.note_launch(STAGE, 6.0)
    assert launch_ms(meter) == 6000


def test_launches_that_differ_by_noise_are_told_alike() -> None:
    for launch_s in (1.9, 2.0, 2.1):
        meter = EngineMeter()
        meter.note_launch(STAGE, launch_s)
        assert launch_ms(meter) == 2000


def test_a_clock_that_was_set_back_counts_for_nothing() -> None:
    meter = EngineMeter()
    meter.note_launch(STAGE, -3.0)
    assert meter.observed() == ()


def test_a_worker_that_takes_more_counts_at_once_and_one_that_took_less_by_its_weight() -> None:
    meter, unit = EngineMeter(), 4 * BYTES_STEP
    most = PRIOR_BYTES + 2 * unit
    meter.note_worker_bytes(STAGE, most, has_ended=False)
    meter.note_worker_bytes(STAGE, most - unit, has_ended=False)
    assert worker_bytes(meter) == most

    meter.note_worker_bytes(STAGE, most - unit, has_ended=True)
    assert worker_bytes(meter) == most - unit // 4
    meter.note_worker_bytes(STAGE, most + unit, has_ended=False)
    assert worker_bytes(meter) == most + unit


def test_workers_that_take_little_lower_what_was_assumed_one_by_one() -> None:
    meter = EngineMeter()
    meter.note_worker_bytes(STAGE, 0, has_ended=False)
    assert meter.observed() == (), "it may still grow"

    meter.note_worker_bytes(STAGE, 0, has_ended=True)
    assert worker_bytes(meter) == PRIOR_BYTES * 3 // 4
    for _ in range(60):
        meter.note_worker_bytes(STAGE, 0, has_ended=True)
    assert worker_bytes(meter) <= BYTES_STEP


def test_engines_are_told_each_by_its_name() -> None:
    meter = EngineMeter()
    meter.note_launch(EngineKind.VLLM, 20.0)
    meter.note_worker_bytes(STAGE, PRIOR_BYTES + 1, has_ended=True)

    assert meter.observed() == (
        EngineObserved(engine=STAGE, worker_bytes=CONTEXT_BYTES + PRIOR_BYTES + BYTES_STEP),
        EngineObserved(engine=EngineKind.VLLM, launch_ms=20_000),
    )


class Started:
    """A worker that runs and its meter."""

    def __init__(self, **spec: Any) -> None:
        self.meter, self.launcher = EngineMeter(), FakeLauncher()
        self.spec = worker_spec(**spec)
        self.worker = SupervisedWorker(
            self.spec,
            clock=FakeClock(),
            changed=lambda: None,
            progressed=lambda: None,
            limits=WatchdogLimits(),
            meter=self.meter,
        )
        start = start_frame(self.spec, DEVICE, Path("fetcher.sock"), DataPlaneOptions())
        self.running = asyncio.create_task(self.worker.run(self.launcher, DEVICE, start))

    async def process(self) -> FakeProcess:
        await eventually(lambda: self.launcher.processes)
        return self.launcher.processes[self.spec.worker_id]

    async def end(self) -> None:
        await (await self.process()).exit(0)
        await asyncio.wait_for(self.running, 5)


@pytest.mark.parametrize(
    ("origin", "expected_ms"), [(Origin.LAUNCHED, 3000), (Origin.STANDBY, None)]
)
async def test_a_launch_lasts_until_the_import_has_ended_and_a_standby_has_none(
    origin: Origin, expected_ms: int | None
) -> None:
    started = Started()
    process = await started.process()
    launched_at_s = FakeClock().now().timestamp()

    await process.say(StepTaken("spawn", launched_at_s + 0.1, launched_at_s + 0.1, origin))
    await process.say(StepTaken("import", launched_at_s + 1.0, None))
    await process.say(Registered(None, None))
    await eventually(lambda: len(started.worker.observed().steps) == 2)
    assert started.meter.observed() == ()
    await process.say(StepTaken("import", launched_at_s + 1.0, launched_at_s + 3.0))
    await process.say(Ready())
    await eventually(lambda: not started.worker.is_starting)

    told = started.meter.observed()
    assert [item.launch_ms for item in told] == ([] if expected_ms is None else [expected_ms])
    await started.end()


async def test_what_a_worker_takes_of_its_gpu_counts_once_it_has_computed_and_at_its_end() -> None:
    mib = 2**20
    started = Started(device_bytes=1000 * mib, worker_bytes=600 * mib)
    process = await started.process()
    await process.say(Ready())
    await eventually(lambda: not started.worker.is_starting)

    started.worker.note_device_bytes(900 * mib)
    assert started.meter.observed() == (), "nothing was computed"
    await process.say(StatsChanged(0, 0, 0, step_us=1))
    await eventually(lambda: started.worker.observed().step_us == 1)
    started.worker.note_device_bytes(None)
    assert started.meter.observed() == (), "the driver does not know it"
    started.worker.note_device_bytes(400 * mib + PRIOR_BYTES + 256 * mib)
    assert worker_bytes(started.meter) == PRIOR_BYTES + 256 * mib

    started.meter.note_worker_bytes(STAGE, PRIOR_BYTES + 512 * mib, has_ended=False)
    await started.end()
    assert worker_bytes(started.meter) == PRIOR_BYTES + (512 - 64) * mib
