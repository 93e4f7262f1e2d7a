"""Interleaved windows of one run: undisturbed, disturbed, and the control in between."""

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from benchmarks.neighbour.scene import DISTURBING, MEASURED, Scene
from tests.support.waiting import eventually

_OPEN_TIMEOUT_S = 300.0
_END_TIMEOUT_S = 60.0
_MAX_OWN = 50  # of the measured tenant
_WITHOUT_PAUSE = (0.0, 0.0)
_SETTLE_S = 10.0  # after a disturbance, until what it left behind is gone


class Kind(Enum):
    """What goes on besides the measured tenant's requests."""

    UNDISTURBED = "undisturbed"  # nothing
    CONTROL = "control"  # as much load as before goes to a server that only reads and refuses
    OPENING = "opening"  # the disturbing tenant's streams are being opened
    DISTURBED = "disturbed"  # they are held, and large prompts come without pause
    CLOSING = "closing"  # they were closed all at once


@dataclass(frozen=True)
class Window:
    kind: Kind
    cycle: int
    began_s: float
    ended_s: float


@dataclass
class Measured:
    """`samples` are as the measured client told them, `loads` what the load's clients counted."""

    windows: list[Window] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    loads: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    num_cycles: int
    window_s: float
    num_streams: int


async def measure(scene: Scene, plan: Plan) -> Measured:
    measured = Measured()
    target = (str(scene.port), scene.keys[MEASURED], MEASURED)
    async with _child("measured_client", *target) as client, _child("refusing_server") as refusing:
        assert client.stdout is not None
        reading = asyncio.create_task(_collect(client.stdout, measured.samples))
        refusing_port = (await _line(refusing, 10)).strip()
        await asyncio.sleep(_SETTLE_S)
        for cycle in range(plan.num_cycles):
            await _undisturbed(measured, cycle, plan)
            await _disturbed(measured, cycle, plan, scene)
            await _undisturbed(measured, cycle, plan)
            await _control(measured, cycle, plan, refusing_port)
    await reading
    return measured


async def _undisturbed(measured: Measured, cycle: int, plan: Plan) -> None:
    began_s = time.monotonic()
    await asyncio.sleep(plan.window_s)
    measured.windows.append(Window(Kind.UNDISTURBED, cycle, began_s, time.monotonic()))


async def _disturbed(measured: Measured, cycle: int, plan: Plan, scene: Scene) -> None:
    began_s = time.monotonic()
    arguments = (str(scene.port), scene.keys[DISTURBING], DISTURBING)
    held_s = await _loaded(measured, Kind.DISTURBED, cycle, plan, arguments, _WITHOUT_PAUSE)
    measured.windows.append(Window(Kind.OPENING, cycle, began_s, held_s))
    ended_s = time.monotonic()
    await _until_released(scene)
    await asyncio.sleep(_SETTLE_S)
    measured.windows.append(Window(Kind.CLOSING, cycle, ended_s, time.monotonic()))


async def _control(measured: Measured, cycle: int, plan: Plan, port: str) -> None:
    """At the pace at which the gateway has answered in the window before."""
    sent = measured.loads[-1]["sent"]
    counts = [sum(statuses.values()) for statuses in sent.values()]
    intervals_s = [plan.window_s / max(1, count) for count in counts]
    await _loaded(measured, Kind.CONTROL, cycle, plan, (port, "-", "-"), intervals_s)
    await asyncio.sleep(_SETTLE_S)


async def _loaded(
    measured: Measured,
    kind: Kind,
    cycle: int,
    plan: Plan,
    arguments: Sequence[str],
    intervals_s: Sequence[float],
) -> float:
    """The moment from which all streams were held."""
    pace = ",".join(str(interval_s) for interval_s in intervals_s)
    async with _child("load_client", *arguments, str(plan.num_streams), pace) as load:
        assert await _line(load, _OPEN_TIMEOUT_S) == "held\n"
        held_s = time.monotonic()
        await asyncio.sleep(plan.window_s)
        measured.windows.append(Window(kind, cycle, held_s, time.monotonic()))
        assert load.stdin is not None
        load.stdin.close()
        counts = json.loads(await _line(load, _END_TIMEOUT_S))
    measured.loads.append({"kind": kind.value, "cycle": cycle, **counts})
    print(f"{kind.value:12} {counts}", flush=True)
    return held_s


async def _until_released(scene: Scene) -> None:
    """Until the gateway knows no request of the load any more."""

    async def is_released() -> bool:
        return await _num_open(scene) < _MAX_OWN

    await eventually(is_released, timeout_s=_END_TIMEOUT_S, poll_s=0.5, what="an empty gateway")


async def _num_open(scene: Scene) -> int:
    text = (await scene.client.http.get("/metrics")).text
    line = next(x for x in text.splitlines() if x.startswith("hydra_gateway_open_requests "))
    return int(float(line.rpartition(" ")[2]))


async def _collect(reader: asyncio.StreamReader, samples: list[dict[str, Any]]) -> None:
    while line := await reader.readline():
        samples.append(json.loads(line))


async def _line(process: Process, timeout_s: float) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(timeout_s):
        return (await process.stdout.readline()).decode()


@asynccontextmanager
async def _child(module: str, *arguments: str) -> AsyncIterator[Process]:
    """Ends when its input does, or is killed."""
    name = f"benchmarks.neighbour.{module}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", name, *arguments, stdin=PIPE, stdout=PIPE
    )
    try:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(_END_TIMEOUT_S):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
