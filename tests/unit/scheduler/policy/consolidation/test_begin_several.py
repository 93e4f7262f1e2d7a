"""When workers beside the entry begin to become endpoints of their own, and when not."""

from dataclasses import replace
from typing import Any

import pytest

from libs.common.states import (
    ConsolidationPhase,
    EndpointState,
    WorkerState,
)
from services.scheduler.policy.cluster import Endpoint, OpenRequest
from services.scheduler.policy.consolidation.consolidation import (
    ConsolidationTries,
)
from services.scheduler.policy.consolidation.decisions import BeginConsolidation
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.policy.consolidation.pipelines import (
    FILES_BYTES,
    NUM_STAGES,
    UNITS,
    begun,
    pipeline,
    says,
    seen,
    snapshot_of,
    with_caches,
    with_open,
)
from tests.unit.scheduler.values import (
    NOW_S,
    model,
    open_request,
)


def requests(count: int) -> tuple[OpenRequest, ...]:
    return tuple(open_request(id=f"request-{n}") for n in range(count))


def needing(num_endpoints: int, there: Endpoint, **changes: Any) -> Snapshot:
    """So many requests that its model needs that many endpoints of four slots."""
    values: dict[str, Any] = {
        "models": (model(max_endpoints=NUM_STAGES),),
        "requests": requests(4 * num_endpoints),
    }
    return snapshot_of(there, **{**values, **changes})


@pytest.mark.parametrize(
    ("num_full", "num_needed", "grown"),
    [
        (3, 1, []),
        (3, 2, ["worker-1"]),
        (3, 3, ["worker-1", "worker-2"]),
        (2, 3, ["worker-1"]),
        (1, 3, []),
    ],
)
def test_as_many_others_begin_as_the_model_needs_and_memory_allows(
    num_full: int, num_needed: int, grown: list[str]
) -> None:
    entry, *others = begun(needing(num_needed, pipeline(num_full)))
    assert isinstance(entry, BeginConsolidation) and not entry.is_scale_up
    found = [other for other in others if isinstance(other, BeginConsolidation)]
    assert [other.worker_id for other in found] == grown
    assert all(other.is_scale_up and other.freed_bytes == 0 for other in found)
    assert all(other.generation == entry.generation for other in found)


def test_a_scale_down_becomes_a_scale_up_when_the_queue_has_grown() -> None:
    (decision,) = begun(needing(2, with_open(pipeline(2))))
    assert isinstance(decision, BeginConsolidation)
    assert (decision.worker_id, decision.is_scale_up) == ("worker-1", True)
    assert decision.unit_digests == (UNITS[0], UNITS[1], UNITS[3], UNITS[4])
    assert decision.load_bytes == 710


GROWN = with_open(pipeline(2))


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        (needing(2, pipeline(2), limits=Limits()), "the settings say so"),
        (needing(2, with_open(GROWN, 1)), "the one that it needs is under way"),
        (needing(2, GROWN, models=(model(max_endpoints=1),)), "the model may have one"),
        (
            needing(2, replace(GROWN, consolidation_tries=ConsolidationTries(1, NOW_S))),
            "a try came to nothing a moment ago",
        ),
        (
            needing(2, GROWN, heard=[seen(GROWN.workers[1], WorkerState.DRAINING)]),
            "it is not ready",
        ),
        (
            needing(
                2,
                GROWN,
                heard=[seen(GROWN.workers[1], consolidation=says(ConsolidationPhase.ABANDONED))],
            ),
            "it still tells of an earlier try",
        ),
        (needing(2, replace(GROWN, state=EndpointState.DRAINING)), "the pipeline takes no more"),
        (with_caches(needing(2, GROWN), FILES_BYTES - 1), "the host cache has no room"),
    ],
)
def test_no_other_begins_where(there: Snapshot, reason: str) -> None:
    assert begun(there) == [], reason


def test_one_begins_where_its_host_cache_has_just_the_room() -> None:
    assert len(begun(with_caches(needing(2, GROWN), FILES_BYTES))) == 1
