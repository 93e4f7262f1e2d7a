"""What heartbeats say that nobody said before, and of whom."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from libs.common.bus.messages import (
    AgentHeartbeat,
    DeviceObserved,
    FetchObserved,
    WorkerObserved,
)
from libs.common.states import FetchState, WorkerState
from services.scheduler.observation.news import News, news_of_agent, news_of_fetcher
from tests.unit.scheduler.values import agent_heartbeat, fetcher_heartbeat

DEVICE = DeviceObserved(index=0, kind="cpu", memory_bytes=1, cores=1)


def worker(number: int, endpoint: str = "a", **facts: Any) -> WorkerObserved:
    state = facts.pop("state", WorkerState.READY)
    return WorkerObserved(
        worker_id=f"worker-{number}", endpoint_id=f"endpoint-{endpoint}", state=state, **facts
    )


def beat(*workers: WorkerObserved) -> AgentHeartbeat:
    return agent_heartbeat("boot-a", 1).model_copy(update={"workers": workers})


@dataclass(frozen=True)
class Case:
    before: tuple[WorkerObserved, ...]
    after: tuple[WorkerObserved, ...]
    endpoints: set[str]


CASES = {
    "one came": Case((worker(1),), (worker(1), worker(2, "b")), {"endpoint-b"}),
    "one went": Case((worker(1), worker(2, "b")), (worker(1),), {"endpoint-b"}),
    "one for another": Case((worker(1),), (worker(2, "b"),), {"endpoint-a", "endpoint-b"}),
    "one moved on": Case(
        (worker(1, state=WorkerState.LAUNCHING), worker(2, "b")),
        (worker(1), worker(2, "b")),
        {"endpoint-a"},
    ),
    "one began to work": Case(
        (worker(1), worker(2, "b")),
        (worker(1), worker(2, "b", num_running=1)),
        {"endpoint-b"},
    ),
    "one has more to do": Case((worker(1, num_running=1),), (worker(1, num_running=3),), set()),
    "in another order": Case((worker(1), worker(2, "b")), (worker(2, "b"), worker(1)), set()),
    "figures": Case((worker(1, idle_ms=5),), (worker(1, idle_ms=900),), set()),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_news_of_workers_are_of_their_endpoints(case: Case) -> None:
    news = news_of_agent(beat(*case.after), beat(*case.before))
    assert news == (News(frozenset(case.endpoints)) if case.endpoints else None)


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.model_copy(update={"boot_id": "boot-b"}),
        lambda b: b.model_copy(update={"devices": (DEVICE,)}),
    ],
    ids=["boot", "devices"],
)
def test_another_boot_and_other_devices_concern_all_that_runs_there(
    change: Callable[[AgentHeartbeat], AgentHeartbeat],
) -> None:
    before = beat(worker(1))
    assert news_of_agent(change(before), before) == News(is_of_node=True)
    assert news_of_agent(before, None) == News(is_of_node=True)


def test_what_a_node_accepted_and_its_fetches_concern_what_starts_or_ends() -> None:
    agent, fetcher = beat(), fetcher_heartbeat()
    accepted = {"accepted_version": agent.accepted_version + 1}
    done = FetchObserved(fetch_id="fetch-1", state=FetchState.COMPLETE)
    assert news_of_agent(agent.model_copy(update=accepted), agent) == News()
    assert news_of_fetcher(fetcher.model_copy(update=accepted), fetcher) == News()
    assert news_of_fetcher(fetcher.model_copy(update={"fetches": (done,)}), fetcher) == News()
    more = done.model_copy(update={"bytes_done": 5})
    said = [fetcher.model_copy(update={"fetches": (fetch,)}) for fetch in (done, more)]
    assert news_of_fetcher(said[1], said[0]) is None
    assert news_of_fetcher(fetcher, None) == News(is_of_node=True)
