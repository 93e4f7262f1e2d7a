"""Real worker processes as the stages of one endpoint, spoken to as their agents would."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from libs.common.cause_words import words
from libs.common.causes import CauseKind
from libs.common.network.nic_rate_limiter import NicRateLimiter
from libs.common.sampling import SamplingParameters
from services.worker.frames.dataplane import DataPlaneOptions, Neighbour, Security
from services.worker.frames.frames import (
    CancelGeneration,
    ConnectPeers,
    Ready,
    Registered,
    StatsChanged,
    StepTaken,
    ToAgent,
    TokensProduced,
    WorkerFailed,
)
from tests.integration.worker.processes import (
    GREEDY,
    RunningWorker,
    Workers,
    expected_tokens,
    generate,
)
from tests.integration.worker.tiny import TinyModel, UnitFolder
from tests.integration.worker.unitservers import UnitServerDouble
from tests.support.failures import require_same_tokens
from tests.support.figures import Figure
from tests.support.reference import Bound

KV_TOKENS = 5000
ENDS_WITHIN_S = 2.5  # the promise is 2 s; the long run holds it to this
REFERENCES = 60  # on top of it where others want the same cores
LONG = SamplingParameters(max_tokens=4000, seed=5, temperature=0.0, ignore_eos=True)


@pytest.fixture(scope="module")
def model() -> TinyModel:
    return TinyModel()


@pytest.fixture
async def folder(tmp_path: Path, model: TinyModel) -> AsyncIterator[UnitFolder]:
    folder = UnitFolder(tmp_path / "units", model)
    with UnitServerDouble(tmp_path, folder):
        yield folder


@pytest.fixture
async def workers(tmp_path: Path, model: TinyModel) -> AsyncIterator[Workers]:
    started = Workers(tmp_path, model)
    yield started
    await started.close()


async def start_stages(
    workers: Workers, cuts: tuple[int, ...], options: DataPlaneOptions | None = None
) -> list[RunningWorker]:
    """Launched, not yet introduced to each other."""
    layers = list(pairwise(cuts))
    return [
        await workers.start(
            stage_index=index,
            num_stages=len(layers),
            first_layer=first,
            last_layer=last,
            kv_tokens=KV_TOKENS,
            data_plane=options or DataPlaneOptions(),
        )
        for index, (first, last) in enumerate(layers)
    ]


async def introduce(stages: list[RunningWorker]) -> None:
    neighbours = []
    for index, stage in enumerate(stages):
        (frame,) = await stage.wait_for(Registered)
        assert isinstance(frame, Registered)
        assert frame.address is not None and frame.public_key is not None
        neighbours.append(Neighbour(index, frame.address, frame.public_key))
    for index, stage in enumerate(stages):
        following = neighbours[(index + 1) % len(stages)]
        stage.connection.send(ConnectPeers(neighbours[index - 1], following))


@pytest.mark.parametrize(
    ("cuts", "security"),
    [
        ((0, 1, 2), Security.CURVE),
        ((0, 0, 2), Security.CURVE),
        ((0, 1, 2), Security.TRUSTED),
        ((0, 1, 2, 2), Security.CURVE),
    ],
    ids=str,
)
async def test_stages_give_the_tokens_of_one_worker(
    workers: Workers,
    folder: UnitFolder,
    model: TinyModel,
    tmp_path: Path,
    cuts: tuple[int, ...],
    security: Security,
) -> None:
    assert cuts[-1] == model.num_layers
    ledger = NicRateLimiter.create(tmp_path / "nic.ledger", 10_000_000)
    options = DataPlaneOptions(security, nic_ledger=str(tmp_path / "nic.ledger"))
    stages = await start_stages(workers, cuts, options)
    stages[0].connection.send(generate("early", 3, 5, 7))
    await introduce(stages)

    folder.fill()

    tokens = await stages[0].tokens_of("early")
    ids = [i for part in tokens for i in part.ids]
    require_same_tokens(ids, expected_tokens(model, (3, 5, 7), tmp_path))
    for stage in stages:
        await stage.wait_for(Ready)
    names = [f"r{n}" for n in range(6)]
    for name in names:
        stages[0].connection.send(generate(name, 3, 5, 7))
    for name in names:
        tokens = await stages[0].tokens_of(name)
        assert [part.start_index for part in tokens] == list(range(GREEDY.max_tokens))
    for index, stage in enumerate(stages):
        steps = [frame for frame in stage.frames if isinstance(frame, StepTaken)]
        ended = [step.name for step in steps if step.ended_at_s is not None]
        assert {"bind", "connect", "linked", "load", "weights", "prefill"} <= set(ended)
        assert ("prefill.received" if index else "head") in ended
        assert len(ended) == len(set(ended)), "each step ends once"
    assert ledger.rate_bytes_per_s == 10_000_000


async def test_nobody_is_ready_before_all_are_linked_and_loaded(
    workers: Workers, folder: UnitFolder
) -> None:
    folder.fill()
    stages = await start_stages(workers, (0, 1, 2))
    for stage in stages:
        await stage.wait_for(StepTaken, 10)  # far beyond its registration
    assert not [f for stage in stages for f in stage.frames if isinstance(f, Ready)]

    await introduce(stages)

    for stage in stages:
        await stage.wait_for(Ready)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("victim", [0, 1, 2])
@pytest.mark.parametrize("references", [REFERENCES, pytest.param(0, marks=pytest.mark.long)])
async def test_a_stage_that_dies_or_freezes_ends_its_neighbours_with_the_cause(
    workers: Workers,
    folder: UnitFolder,
    victim: int,
    number: signal.Signals,
    references: int,
    figure: Figure,
) -> None:
    folder.fill()
    stages = await start_stages(workers, (0, 1, 1, 2))
    await introduce(stages)
    for stage in stages:
        await stage.wait_for(Ready)
    bound = Bound(ENDS_WITHIN_S, references)
    stages[0].connection.send(generate("r", 3, sampling=LONG))
    await stages[0].wait_for(TokensProduced, 3)
    started_s = time.monotonic()

    os.kill(stages[victim].process.pid, number)

    lost = {}
    for index, stage in enumerate(stages):
        if index != victim:
            (failed,) = await stage.wait_for(WorkerFailed)
            lost[index] = lost_neighbour(failed, index)
            await asyncio.wait_for(stage.process.wait(), 10)
    took_s = time.monotonic() - started_s
    figure(f"its neighbours ended {took_s:.2f} s after stage {victim} had {number.name}")
    bound.check(took_s, "ending the neighbours")
    # Who noticed first ends, and may be what its other neighbour notices: all ways lead to one.
    for stage_index in lost:
        while stage_index in lost:
            stage_index = lost[stage_index]
        assert stage_index == victim


async def test_a_stage_that_was_frozen_ends_when_it_goes_on(
    workers: Workers, folder: UnitFolder
) -> None:
    folder.fill()
    stages = await start_stages(workers, (0, 1, 2))
    await introduce(stages)
    for stage in stages:
        await stage.wait_for(Ready)
    os.kill(stages[1].process.pid, signal.SIGSTOP)
    await stages[0].wait_for(WorkerFailed)

    os.kill(stages[1].process.pid, signal.SIGCONT)

    (failed,) = await stages[1].wait_for(WorkerFailed)
    assert lost_neighbour(failed, 1) == 0


def lost_neighbour(failed: ToAgent, index: int) -> int:
    assert isinstance(failed, WorkerFailed)
    facts = failed.cause.facts
    assert failed.cause.kind is CauseKind.NEIGHBOUR_LOST and facts["own_stage"] == index
    assert isinstance(facts["stage"], int)
    return facts["stage"]


async def test_a_cancelled_request_frees_its_cache_while_its_tokens_are_on_their_way(
    workers: Workers, folder: UnitFolder
) -> None:
    folder.fill()
    stages = await start_stages(workers, (0, 1, 2))
    await introduce(stages)
    stages[0].connection.send(generate("gone", 3, sampling=LONG))
    await stages[0].wait_for(TokensProduced, 3)

    stages[0].connection.send(CancelGeneration("gone", 1))

    tokens = await stages[0].tokens_of("gone")
    assert tokens[-1].finish == "cancelled"
    async with asyncio.timeout(5):
        while True:
            stats = [f for f in stages[0].frames if isinstance(f, StatsChanged)]
            if stats and stats[-1].num_running == 0 and stats[-1].kv_used_bytes == 0:
                break
            await stages[0].wait_for(StatsChanged, len(stats) + 1)


async def test_stages_that_wait_for_work_are_seen_to_move(
    workers: Workers, folder: UnitFolder
) -> None:
    folder.fill()
    stages = await start_stages(workers, (0, 1, 2))
    await introduce(stages)
    for stage in stages:
        await stage.wait_for(Ready)
        num_before = sum(isinstance(frame, StatsChanged) for frame in stage.frames)
        signs = (await stage.wait_for(StatsChanged, num_before + 3))[num_before:]
        counts = [sign.progress for sign in signs if isinstance(sign, StatsChanged)]
        assert counts == sorted(counts) and counts[-1] > counts[0]


async def test_a_stage_without_its_share_of_the_cache_is_refused(
    workers: Workers, folder: UnitFolder
) -> None:
    folder.fill()
    worker = await workers.start(num_stages=2, last_layer=1)
    (failed,) = await worker.wait_for(WorkerFailed)
    assert isinstance(failed, WorkerFailed)
    assert "number of cache slots" in words(failed.cause)


async def test_layers_that_the_model_does_not_have_are_refused(
    workers: Workers, folder: UnitFolder
) -> None:
    folder.fill()
    worker = await workers.start(num_stages=2, first_layer=1, last_layer=9, kv_tokens=10)
    (failed,) = await worker.wait_for(WorkerFailed)
    assert isinstance(failed, WorkerFailed)
    assert "has no layers 1 to 9" in words(failed.cause)
