"""Hollow stages of one endpoint, of two processes: they meet, pass a prefill on, notice an end."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest

from benchmarks.controlplane.hollow.workers.data_plane import DataPlane
from benchmarks.controlplane.hollow.workers.ring_member import RingMember
from services.worker.frames.dataplane import Neighbour
from services.worker.frames.frames import ConnectPeers, StepTaken, ToAgent
from services.worker.runtime.dataplane.errors import LinkTimedOut, NeighbourLost
from services.worker.runtime.prefill_steps import FirstAnswer
from services.worker.runtime.start_steps import StartSteps
from tests.unit.benchmarks.hollow.test_engine import START
from tests.unit.fetcher.worlds import eventually

NUM_STAGES = 3


@dataclass
class Stage:
    member: RingMember
    answer: FirstAnswer
    frames: list[ToAgent] = field(default_factory=list)

    @property
    def steps(self) -> dict[str, StepTaken]:
        """Those that have ended."""
        taken = (frame for frame in self.frames if isinstance(frame, StepTaken))
        return {step.name: step for step in taken if step.ended_at_s is not None}


@pytest.fixture
async def stages() -> AsyncIterator[list[Stage]]:
    planes = [await DataPlane.open() for _ in range(2)]
    made = [_stage(planes[index % 2], index) for index in range(NUM_STAGES)]
    yield made
    for stage in made:
        stage.member.leave()
    for plane in planes:
        plane.close()


def _stage(plane: DataPlane, index: int) -> Stage:
    start = replace(
        START,
        worker_id=f"worker-{index}",
        stage_index=index,
        num_stages=NUM_STAGES,
        start_timeout_ms=20_000,
    )
    frames: list[ToAgent] = []
    answer = FirstAnswer(StartSteps(frames.append))
    return Stage(RingMember(plane, start, answer), answer, frames)


def connect(stages: list[Stage], index: int) -> None:
    around = [(index - 1) % NUM_STAGES, (index + 1) % NUM_STAGES]
    addresses = [stages[i].member.registered for i in around]
    neighbours = [
        Neighbour(i, told.address or "", told.public_key or "")
        for i, told in zip(around, addresses, strict=True)
    ]
    stages[index].member.connect(ConnectPeers(*neighbours))


async def meet_all(stages: list[Stage]) -> None:
    for index in range(NUM_STAGES):
        connect(stages, index)
    await asyncio.gather(*(stage.member.meet() for stage in stages))


async def test_a_stage_waits_for_neighbours_that_do_not_know_it_yet(stages: list[Stage]) -> None:
    connect(stages, 0)
    first = asyncio.create_task(stages[0].member.meet())
    await asyncio.sleep(0)
    assert not first.done()

    await meet_all(stages)
    await first


async def test_who_is_never_met_is_missing_in_the_end(stages: list[Stage]) -> None:
    connect(stages, 0)
    hasty = stages[0].member
    hasty._start = replace(hasty._start, start_timeout_ms=10)

    with pytest.raises(LinkTimedOut):
        await hasty.meet()


async def test_the_first_prefill_passes_every_stage_in_order_and_ends_at_the_head(
    stages: list[Stage],
) -> None:
    await meet_all(stages)
    entry, *followers = stages
    entry.answer.prefill.begin()

    entry.member.begin_prefill(0.03)
    await eventually(lambda: all("prefill.received" in stage.steps for stage in followers))
    await eventually(lambda: entry.answer.head._started_at_s is not None)

    ends = [stage.steps["prefill"].ended_at_s for stage in stages]
    assert ends == sorted(ends, key=lambda end: end or 0)
    received = [stage.steps["prefill.received"].ended_at_s or 0 for stage in followers]
    assert all(a <= b for a, b in zip(received, [end or 0 for end in ends[1:]], strict=True))


async def test_the_end_of_a_stage_is_noticed_by_both_neighbours(stages: list[Stage]) -> None:
    await meet_all(stages)
    lost = stages[1].member

    lost.leave()

    for index, how in ((0, "the connection to it ended"), (2, "its connection ended")):
        with pytest.raises(NeighbourLost, match=f"stage {index} lost its neighbour stage 1: {how}"):
            await stages[index].member.until_lost(0)
