"""Heartbeats come two thousand a second: what is looked at in each is the same as in plain words,
and costs little."""

import random
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from math import inf, isfinite, nan
from typing import Any

import pytest

from libs.common.bus.messages import (
    AgentHeartbeat,
    DeviceObserved,
    EngineObserved,
    FetcherHeartbeat,
    FetchObserved,
    Message,
    Step,
    UnacknowledgedEnd,
    WorkerObserved,
)
from libs.common.states import EngineKind, FetchState, WorkerState
from services.scheduler.observation import heartbeat_limits
from services.scheduler.observation.heartbeat_limits import invalid_field
from services.scheduler.observation.heartbeat_log import HeartbeatLog
from services.scheduler.observation.liveness import LivenessLog
from tests.unit.scheduler.values import cache_report

NUM_CASES = 3000
STRANGE: dict[type, tuple[Any, ...]] = {
    int: (-1, 0, 2**62 + 1, 2**63 - 1, 2**63),
    float: (-1.0, nan, inf, 1e18, 0.5, 1.5),
    str: ("a\x00b", "tcp://1.2.3.4:5", "nowhere", "k" * 40),
    datetime: (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)),
}
TEXTS = ("address", "public_key")  # that may be missing, but are nothing else


# ---------------------------------------------------------------- in plain words


def reference_complaints(message: Message, path: str = "") -> Iterator[str]:
    for name in type(message).model_fields:
        yield from _reference_value(getattr(message, name), f"{path}{name}", name)


def _reference_value(value: object, path: str, name: str) -> Iterator[str]:
    if type(value) is int:
        limit = heartbeat_limits._MAX_VALUES.get(name, heartbeat_limits.MAX_INTEGER)
        if not 0 <= value <= limit:
            yield f"{path} is not between 0 and {limit}"
    elif isinstance(value, float):
        most = 1 if name in heartbeat_limits._FRACTIONS else 1e18 - 1000
        if not (isfinite(value) and 0 <= value <= most):
            yield f"{path} is out of range"
    elif isinstance(value, str):
        if "\x00" in value:
            yield f"{path} has a NUL, which no column holds"
    elif isinstance(value, datetime):
        if value.year not in heartbeat_limits._YEARS:
            yield f"{path} is no date of ours"
    elif isinstance(value, tuple):
        limit = heartbeat_limits._MAX_COUNTS.get(name, sys.maxsize)
        if len(value) > limit:
            yield f"{path} are {len(value)}, more than {limit}"
            return
        for entry in value:
            if isinstance(entry, Message):
                yield from reference_complaints(entry, f"{path}.")
    elif isinstance(value, Message):
        yield from reference_complaints(value, f"{path}.")


def reference_invalid_field(message: Message) -> str | None:
    found = next(reference_complaints(message), None)
    if found is None and isinstance(message, AgentHeartbeat):
        return next(heartbeat_limits._agent_complaints(message), None)
    if found is None and isinstance(message, FetcherHeartbeat):
        ids, report = [fetch.fetch_id for fetch in message.fetches], message.host_cache
        if len(set(ids)) < len(ids):
            return "fetches name one id twice"
        if len({*report.added, *report.removed}) < len(report.added) + len(report.removed):
            return "host_cache name one id twice"
        if report.since_version > report.version:
            return f"host_cache.since_version is {report.since_version}, after {report.version}"
    return found


def reference_facts(heartbeat: AgentHeartbeat | FetcherHeartbeat) -> object:
    """All of a heartbeat that a decision could depend on."""
    entries: tuple[object, ...]
    if isinstance(heartbeat, AgentHeartbeat):
        entries = (
            heartbeat.devices,
            tuple(
                (w.worker_id, w.state, w.num_running + w.num_waiting == 0)
                for w in heartbeat.workers
            ),
        )
    else:
        entries = tuple((f.fetch_id, f.state) for f in heartbeat.fetches)
    return (heartbeat.boot_id, heartbeat.accepted_version, entries)


# ------------------------------------------------------------------- random ones


def step(rng: random.Random) -> Step:
    return Step(name=rng.choice(["load", "fetch"]), started_at=datetime(2026, 1, 1, tzinfo=UTC))


def worker(rng: random.Random) -> WorkerObserved:
    return WorkerObserved(
        worker_id=f"worker-{rng.randrange(3)}",
        endpoint_id="endpoint-1",
        state=rng.choice([WorkerState.READY, WorkerState.LAUNCHING]),
        num_running=rng.randrange(2),
        num_waiting=rng.randrange(2),
        steps=tuple(step(rng) for _ in range(rng.randrange(2))),
    )


def agent(rng: random.Random, sequence: int = 1) -> AgentHeartbeat:
    device = DeviceObserved(index=0, kind="cpu", memory_bytes=rng.choice([1, 2]), cores=2)
    return AgentHeartbeat(
        node_id="node-1",
        boot_id=rng.choice(["boot-1", "boot-1", "boot-2"]),
        sequence=sequence,
        accepted_version=rng.randrange(2),
        devices=(device,) * rng.choice([1, 1, 1, 2]),
        workers=tuple(worker(rng) for _ in range(rng.randrange(3))),
        engines=(EngineObserved(engine=EngineKind.STAGE, launch_ms=5),) * rng.randrange(2),
        unacknowledged=(UnacknowledgedEnd(request_id="r", attempt=1, num_generated_tokens=2),),
    )


def fetcher(rng: random.Random, sequence: int = 1) -> FetcherHeartbeat:
    return FetcherHeartbeat(
        node_id="node-1",
        boot_id=rng.choice(["boot-1", "boot-1", "boot-2"]),
        sequence=sequence,
        accepted_version=rng.randrange(2),
        nic_bytes_per_s=10,
        measured_bytes_per_s=rng.choice([None, 0.5]),
        cache_capacity_bytes=10,
        cache_used_bytes=0,
        host_cache=cache_report(
            version=rng.randrange(3),
            since_version=rng.choice([0, 0, 1]),
            added=("1" * 64,) * rng.choice([0, 0, 1, 300]),
            removed=("1" * 64, "2" * 64)[: rng.choice([0, 0, 1, 2])],
        ),
        fetches=tuple(
            FetchObserved(
                fetch_id=f"fetch-{rng.randrange(3)}",
                state=rng.choice([FetchState.FETCHING, FetchState.COMPLETE]),
                steps=tuple(step(rng) for _ in range(rng.randrange(2))),
            )
            for _ in range(rng.randrange(3))
        ),
    )


def spoilt(rng: random.Random, message: Message) -> Message:
    """With one field, however deep, as no sound process would say it."""
    name, value = rng.choice(sorted(message.__dict__.items(), key=lambda item: item[0]))
    if isinstance(value, tuple) and value and isinstance(value[0], Message):
        at = rng.randrange(len(value))
        changed: object = (*value[:at], spoilt(rng, value[at]), *value[at + 1 :])
    elif isinstance(value, Message):
        changed = spoilt(rng, value)
    elif type(value) in STRANGE:
        changed = rng.choice(STRANGE[type(value)])
    elif value is None:
        kinds = [str] if name in TEXTS else [int, float, str]
        changed = rng.choice(STRANGE[rng.choice(kinds)])
    else:
        return message
    return message.model_copy(update={name: changed})


def test_the_first_wrong_field_is_the_same_as_in_plain_words() -> None:
    rng, found = random.Random(1), set()
    for _ in range(NUM_CASES):
        message: Message = rng.choice([agent, fetcher])(rng)
        for _ in range(rng.randrange(3)):
            message = spoilt(rng, message)

        complaint = invalid_field(message)

        assert complaint == reference_invalid_field(message), message
        found.add(complaint)
    assert len(found) > 30, "cases of many kinds"


def test_news_are_what_changes_in_plain_words() -> None:
    rng, log, num_news = random.Random(2), HeartbeatLog(LivenessLog(0.0, 2.0)), 0
    before: dict[object, AgentHeartbeat | FetcherHeartbeat] = {}
    for sequence in range(NUM_CASES):
        beat: AgentHeartbeat | FetcherHeartbeat
        if rng.random() < 0.5:
            beat = agent(rng, sequence).model_copy(update={"boot_id": "boot-1"})
            if reference_invalid_field(beat) is not None:
                continue
            is_news = log.accept_agent(beat, 0.0) is not None
        else:
            beat = fetcher(rng, sequence).model_copy(update={"boot_id": "boot-1"})
            if reference_invalid_field(beat) is not None:
                continue
            is_news = log.accept_fetcher(beat, 0.0) is not None
        known = before.get(type(beat))
        assert is_news == (known is None or reference_facts(known) != reference_facts(beat))
        before[type(beat)] = beat
        num_news += is_news
    assert 100 < num_news


# ------------------------------------------------------------------------- costs


def num_calls(work: Callable[[], object]) -> int:
    """Python functions that were called, or went on, meanwhile."""
    found = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal found
        found += event == "call"

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found


@pytest.mark.parametrize(
    ("num_workers", "is_read_anew", "most"), [(0, True, 40), (8, True, 70), (8, False, 20)]
)
def test_a_heartbeat_without_news_costs_a_few_calls_for_each_device_and_worker(
    num_workers: int, most: int, *, is_read_anew: bool
) -> None:
    log = HeartbeatLog(LivenessLog(0.0, 2.0))
    devices = tuple(
        DeviceObserved(index=index, kind="cuda", memory_bytes=2**36, cores=8) for index in range(8)
    )
    workers = tuple(
        WorkerObserved(worker_id=f"worker-{i}", endpoint_id="endpoint-1", state=WorkerState.READY)
        for i in range(num_workers)
    )
    first, second = (
        AgentHeartbeat(
            node_id="node-1",
            boot_id="boot-1",
            sequence=sequence,
            accepted_version=1,
            devices=devices,
            workers=workers,
        )
        for sequence in (1, 2)
    )
    if not is_read_anew:
        second = first.model_copy(update={"sequence": 2})
    log.accept_agent(first, 0.0)

    assert num_calls(lambda: log.accept_agent(second, 1.0)) <= most
