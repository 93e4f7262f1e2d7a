"""The agent as it runs: real processes, a real bus, real unit files."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from libs.common.bus.messages import (
    Acknowledged,
    AcknowledgeFinish,
    ResendReply,
    ResendTokens,
    TokensGenerated,
)
from libs.common.bus.subjects import ENDPOINT_ACKNOWLEDGE, ENDPOINT_RESEND
from libs.common.cause_words import words
from libs.common.errors import BusError, BusNoResponders
from libs.common.states import FinishReason, WorkerState
from tests.integration.servers import RunningNats
from tests.integration.worker.agents import WAIT_S, Cluster, RunningAgent, request_for, send
from tests.support.failures import require_same_tokens
from tests.support.waiting import eventually


async def gone(pid: int) -> None:
    """Return when no such process is there any more."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(10):
            await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


@pytest.mark.usefixtures("agent")
async def test_a_request_sent_with_the_launch_is_answered(cluster: Cluster) -> None:
    await cluster.desire(cluster.spec("worker-a"))
    assert await send(cluster, request_for("worker-a")) == "accepted"

    parts = await cluster.until_ended("request-a")

    assert [part.start_index for part in parts] == list(range(20))
    assert [len(part.ids) for part in parts] == [1] * 20
    assert parts[-1].finish is FinishReason.LENGTH
    observed = await cluster.until_worker("worker-a", WorkerState.READY)
    names = {step.name for step in observed.steps}
    assert {"spawn", "import", "map_units", "weights", "build_engine", "load", "ready"} <= names
    assert all(step.ended_at and step.ended_at >= step.started_at for step in observed.steps)
    idle = await cluster.until(lambda h: h.workers[0].idle_ms > 0 and h.workers[0].step_us > 0)
    observed = idle.workers[0]
    assert (observed.num_running, observed.num_waiting) == (0, 0)
    assert 0 < observed.kv_capacity_bytes <= 2**22


@pytest.mark.usefixtures("agent")
async def test_tokens_can_be_asked_for_again_until_their_end_is_acknowledged(
    cluster: Cluster,
) -> None:
    await cluster.desire(cluster.spec("worker-a"))
    await send(cluster, request_for("worker-a", num_logprobs=2))
    first = await cluster.until_ended("request-a")
    cluster.tokens.clear()

    again = ResendTokens(request_id="request-a", attempt=1, from_index=0)
    endpoint = "endpoint-of-worker-a"
    reply = await cluster.gateway.request(ENDPOINT_RESEND, endpoint, again, timeout_s=5)

    assert reply == ResendReply(known=True, next_index=20)
    (second,) = await cluster.until_ended("request-a")
    require_same_tokens(second.ids, tuple(i for part in first for i in part.ids))
    assert second.logprobs == tuple(entry for part in first for entry in part.logprobs or ())
    end = AcknowledgeFinish(request_id="request-a", attempt=1)
    assert await cluster.gateway.request(
        ENDPOINT_ACKNOWLEDGE, endpoint, end, timeout_s=5
    ) == Acknowledged(known=True)
    reply = await cluster.gateway.request(ENDPOINT_RESEND, endpoint, again, timeout_s=5)
    assert reply == ResendReply(known=False)


@pytest.mark.usefixtures("agent")
async def test_a_killed_worker_is_noticed_and_its_endpoint_answers_no_more(
    cluster: Cluster,
) -> None:
    await cluster.desire(cluster.spec("worker-a"))
    observed = await cluster.until_worker("worker-a", WorkerState.READY)
    assert observed.pid is not None
    await send(cluster, request_for("worker-a", max_tokens=200))

    os.kill(observed.pid, signal.SIGKILL)

    observed = await cluster.until_worker("worker-a", WorkerState.FAILED)
    assert observed.cause is not None and "SIGKILL" in words(observed.cause)
    with pytest.raises(BusNoResponders):
        await send(cluster, request_for("worker-a", "request-b"))


async def test_a_killed_agent_takes_its_workers_with_it_and_a_new_boot_starts_empty(
    agent: RunningAgent, cluster: Cluster
) -> None:
    await cluster.desire(cluster.spec("worker-a"), cluster.spec("worker-b"))
    pids = [
        (await cluster.until_worker("worker-a", WorkerState.READY)).pid,
        (await cluster.until_worker("worker-b", WorkerState.READY)).pid,
    ]
    boot_id = cluster.heartbeats[-1].boot_id

    agent.kill()

    for pid in pids:
        assert pid is not None
        await gone(pid)
    agent.restart()
    heartbeat = await cluster.until(lambda h: h.boot_id != boot_id)
    assert (heartbeat.accepted_version, heartbeat.workers) == (0, ())


async def test_an_agent_killed_during_a_start_leaves_no_process(
    agent: RunningAgent, cluster: Cluster
) -> None:
    await cluster.desire(cluster.spec("worker-a"))
    heartbeat = await cluster.until(lambda h: any(w.pid for w in h.workers))
    pid = heartbeat.workers[0].pid
    assert pid is not None

    agent.kill()

    await gone(pid)


@pytest.mark.usefixtures("agent")
async def test_a_frozen_worker_is_stopped_by_force_when_it_is_undesired(cluster: Cluster) -> None:
    await cluster.desire(cluster.spec("worker-a"))
    observed = await cluster.until_worker("worker-a", WorkerState.READY)
    assert observed.pid is not None
    os.kill(observed.pid, signal.SIGSTOP)

    await cluster.desire()

    await cluster.until(lambda h: not h.workers)
    await gone(observed.pid)


async def test_a_stopped_agent_ends_its_workers_and_itself(
    agent: RunningAgent, cluster: Cluster
) -> None:
    await cluster.desire(cluster.spec("worker-a"))
    observed = await cluster.until_worker("worker-a", WorkerState.READY)

    assert await asyncio.to_thread(agent.stop) == 0

    assert observed.pid is not None
    await gone(observed.pid)


async def test_starting_and_stopping_workers_leaks_no_descriptor(
    agent: RunningAgent, cluster: Cluster
) -> None:
    async def round_trip(number: int) -> None:
        await cluster.desire(cluster.spec(f"worker-{number}"))
        await cluster.until_worker(f"worker-{number}", WorkerState.REGISTERED)
        await cluster.desire()
        await cluster.until(lambda h: not h.workers)

    await round_trip(0)
    before = agent.num_descriptors()
    for number in range(1, 5):
        await round_trip(number)

    assert agent.num_descriptors() <= before


async def test_an_agent_outlives_its_bus(
    agent: RunningAgent, cluster: Cluster, nats_server: RunningNats
) -> None:
    await cluster.desire(cluster.spec("worker-a"))
    observed = await cluster.until_worker("worker-a", WorkerState.READY)

    await nats_server.kill()
    await nats_server.start()

    cluster.heartbeats.clear()
    heartbeat = await cluster.until(lambda h: bool(h.workers))
    assert (heartbeat.workers[0].pid, heartbeat.workers[0].state) == (
        observed.pid,
        WorkerState.READY,
    )
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                assert await send(cluster, request_for("worker-a")) == "accepted"
                break
            except BusError:
                await asyncio.sleep(0.05)  # its subscriptions come back with its connection
    await cluster.until_ended("request-a")


@pytest.mark.usefixtures("agent")
async def test_tokens_made_while_the_bus_was_away_are_all_there_afterwards(
    cluster: Cluster, nats_server: RunningNats
) -> None:
    await cluster.desire(cluster.spec("worker-a"))
    await cluster.until_worker("worker-a", WorkerState.READY)
    await send(cluster, request_for("worker-a", "request-a", max_tokens=200))
    undisturbed = [i for part in await cluster.until_ended("request-a") for i in part.ids]
    await send(cluster, request_for("worker-a", "request-b", max_tokens=200))

    await nats_server.kill()
    await nats_server.start()

    cluster.tokens.clear()
    endpoint = "endpoint-of-worker-a"
    again = ResendTokens(request_id="request-b", attempt=1, from_index=0)
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                reply = await cluster.gateway.request(ENDPOINT_RESEND, endpoint, again, timeout_s=5)
            except BusError:
                await asyncio.sleep(0.05)  # connections come back one by one
                continue
            if reply == ResendReply(known=True, next_index=200):
                break
    parts = await cluster.until_ended("request-b")
    await eventually(lambda: len(as_read(parts)) == 200)
    assert as_read(parts) == undisturbed


def as_read(parts: list[TokensGenerated]) -> list[int]:
    """As a gateway does it: what comes again is known, what leaves a gap will come again."""
    known: list[int] = []
    for part in parts:
        if part.start_index <= len(known):
            known += part.ids[len(known) - part.start_index :]
    return known


async def test_a_worker_finds_no_secret_in_its_environment(
    agent: RunningAgent, cluster: Cluster
) -> None:
    await cluster.desire(cluster.spec("worker-a"))
    observed = await cluster.until_worker("worker-a", WorkerState.READY)
    environment = await asyncio.to_thread(Path(f"/proc/{observed.pid}/environ").read_bytes)
    keys = {entry.partition(b"=")[0].decode() for entry in environment.split(b"\0") if entry}
    assert not [key for key in keys if key.startswith("HYDRA_")]
    assert "OMP_NUM_THREADS" in keys
