"""What of a worker's frames makes its agent speak, and what goes with the next heartbeat."""

import asyncio
from pathlib import Path

from libs.common.bus import messages
from libs.common.bus.messages import EngineSpeed
from libs.common.states import FetchClass, WorkerState
from libs.common.testing.bus import FakeClock
from services.worker.agent.engine_meter import EngineMeter
from services.worker.agent.processes.supervised import SupervisedWorker
from services.worker.agent.processes.watchdog import WatchdogLimits
from services.worker.agent.translate import start_frame
from services.worker.frames.dataplane import DataPlaneOptions
from services.worker.frames.frames import DecodeTime, Ready, Registered, StatsChanged
from tests.support.devices import cpu
from tests.support.waiting import eventually
from tests.unit.worker.fakes import FakeLauncher
from tests.unit.worker.values import worker_spec

DEVICE = cpu()


async def test_no_figure_of_the_engine_is_a_reason_for_a_heartbeat() -> None:
    spec, changes, launcher = worker_spec(), list[None](), FakeLauncher()
    worker = SupervisedWorker(
        spec,
        clock=FakeClock(),
        changed=lambda: changes.append(None),
        progressed=lambda: None,
        limits=WatchdogLimits(),
        meter=EngineMeter(),
    )
    start = start_frame(
        spec, DEVICE, Path("fetcher.sock"), DataPlaneOptions(), FetchClass.INTERACTIVE
    )
    running = asyncio.create_task(worker.run(launcher, DEVICE, start))
    await eventually(lambda: launcher.processes)
    process = launcher.processes[spec.worker_id]
    for frame in (Registered(None, None), Ready(), StatsChanged(0, 0, 64, 640, step_us=1)):
        await process.say(frame)
    await eventually(lambda: worker.observed().step_us == 1)
    assert worker.observed().state is WorkerState.READY
    before = len(changes)

    for step_us in range(2, 20):
        await process.say(StatsChanged(0, 0, 64, 640, step_us=step_us))
    await eventually(lambda: worker.observed().step_us == 19)
    await process.say(StatsChanged(0, 0, 128, 640, step_us=19, progress=7))
    await eventually(lambda: worker.observed().kv_used_bytes == 128)
    assert len(changes) == before
    assert (worker.observed().kv_capacity_bytes, worker.observed().progress) == (640, 7)
    assert worker.observed().speed is None, "nothing was measured"
    times = (DecodeTime(2, 40),)
    await process.say(StatsChanged(0, 0, 128, prefill_us_per_token=1.5, decode_times=times))
    await eventually(lambda: worker.observed().speed is not None)
    told = EngineSpeed(prefill_us_per_token=1.5, decode=(messages.DecodeTime(batch=2, mean_us=40),))
    assert worker.observed().speed == told
    assert len(changes) == before

    await process.exit(0)
    await asyncio.wait_for(running, 5)
    ended = worker.observed()
    assert (ended.kv_used_bytes, ended.kv_capacity_bytes, ended.step_us) == (0, 0, 0)
    assert ended.speed is None
