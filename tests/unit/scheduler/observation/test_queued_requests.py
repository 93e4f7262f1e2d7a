"""The count of what waits is that of the rows, whatever happens in whichever order."""

import random
from collections import Counter

import pytest

from services.scheduler.observation.queued_requests import NumQueued, Queue, QueuedRequests
from services.scheduler.policy.decisions import AssignRequest
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.policy.tables.snapshot_tables import request_table
from tests.unit.scheduler.values import model, open_request

QUEUES = [Queue(f"model-{i}", f"tenant-{i % 2}") for i in range(4)]


def snapshot_of(rows: dict[str, Queue]) -> Snapshot:
    requests = {
        id_: open_request(id=id_, model_id=queue.model_id, endpoint_id=None)
        for id_, queue in rows.items()
    }
    models = {q.model_id: model(id=q.model_id, tenant=q.tenant) for q in QUEUES}
    return Snapshot(0.0, requests=request_table(requests), models=models)


def recounted(rows: dict[str, Queue], queue: Queue) -> NumQueued:
    """The plain way: all rows, each time."""
    models = Counter(own.model_id for own in rows.values())
    tenants = Counter(own.tenant for own in rows.values())
    return NumQueued(models[queue.model_id], tenants[queue.tenant], len(rows))


@pytest.mark.parametrize("seed", range(20))
def test_after_each_sweep_it_counts_as_a_recount_of_the_rows_does(seed: int) -> None:
    """Half of what others do is told to nobody; what happens during a sweep is not lost."""
    chance, rows, queued = random.Random(seed), dict[str, Queue](), QueuedRequests()
    queued.load({})
    for step in range(300):
        queued.begin_sweep()
        read = dict(rows)
        for i in range(chance.randrange(4)):
            enters(rows, queued, f"r-{step}-{i}", chance.choice(QUEUES))
        if rows and chance.random() < 0.7:
            leaves(rows, queued, chance.choice(list(rows)))
        queued.end_sweep(snapshot_of(read))
        assert [queued.num_queued(q) for q in QUEUES] == [recounted(rows, q) for q in QUEUES]
        for id_ in chance.sample(sorted(rows), min(len(rows), chance.randrange(3))):
            del rows[id_]  # by its gateway, whose word is lost
        if chance.random() < 0.2:
            queued.forget()
            queued.load(rows)


def enters(rows: dict[str, Queue], queued: QueuedRequests, id_: str, queue: Queue) -> None:
    rows[id_] = queue
    queued.enter(id_, queue)


def leaves(rows: dict[str, Queue], queued: QueuedRequests, id_: str) -> None:
    del rows[id_]
    queued.leave([id_])


def test_whoever_is_given_to_an_endpoint_waits_no_more() -> None:
    queued = QueuedRequests()
    queued.load({"a": QUEUES[0], "b": QUEUES[0]})

    queued.follow([AssignRequest("model-0", "a", 1, "endpoint-1")])

    assert queued.num_queued(QUEUES[0]) == NumQueued(1, 1, 1)


def test_a_sweep_that_began_before_the_rows_were_read_changes_nothing() -> None:
    queued = QueuedRequests()
    queued.begin_sweep()
    queued.load({"a": QUEUES[0]})

    queued.end_sweep(snapshot_of({}))

    assert "a" in queued


def test_the_first_sweep_of_a_leader_tells_all_that_wait() -> None:
    queued = QueuedRequests()
    queued.begin_sweep()
    queued.end_sweep(snapshot_of({"a": QUEUES[1]}))

    assert queued.is_known
    assert queued.num_queued(QUEUES[1]) == NumQueued(1, 1, 1)
