"""What would stop a round for everybody does not come in: it is named, field by field."""

from datetime import UTC, datetime
from typing import Any

import pytest

from libs.common.bus.messages import (
    AgentHeartbeat,
    DeviceObserved,
    EngineObserved,
    FetcherHeartbeat,
    FetchObserved,
    ImportProgressed,
    Step,
    UnacknowledgedEnd,
    WorkerObserved,
)
from libs.common.states import EngineKind, FetchState, ImportState, WorkerState
from services.scheduler.observation.heartbeat_limits import MAX_DEVICES, invalid_field
from tests.unit.scheduler.values import cache_report

SAID: dict[str, Any] = {
    "node_id": "node-1",
    "boot_id": "boot-1",
    "sequence": 1,
    "accepted_version": 0,
}
WORKER: dict[str, Any] = {
    "worker_id": "worker-1",
    "endpoint_id": "endpoint-1",
    "state": WorkerState.READY,
}


def agent(**changes: Any) -> AgentHeartbeat:
    device = DeviceObserved(index=0, kind="cpu", memory_bytes=2**30, cores=2)
    values = {**SAID, "devices": (device,), "workers": (WorkerObserved(**WORKER),)}
    return AgentHeartbeat(**{**values, **changes})


def fetcher(**changes: Any) -> FetcherHeartbeat:
    values: dict[str, Any] = {
        **SAID,
        "nic_bytes_per_s": 10**9,
        "measured_bytes_per_s": 5e8,
        "cache_capacity_bytes": 10**10,
        "cache_used_bytes": 0,
        "host_cache": cache_report(),
        "fetches": (FetchObserved(fetch_id="fetch-1", state=FetchState.FETCHING),),
    }
    return FetcherHeartbeat(**{**values, **changes})


def step(**changes: Any) -> Step:
    values = {"name": "fetch", "started_at": datetime(2026, 1, 1, tzinfo=UTC), **changes}
    return Step(**values)


def test_what_nodes_say_every_second_is_valid() -> None:
    assert invalid_field(agent()) is None
    assert invalid_field(fetcher()) is None
    assert invalid_field(_worker(compute_share=1.0, compute_demand=0.0)) is None


def _worker(**changes: Any) -> AgentHeartbeat:
    return agent(workers=(WorkerObserved(**{**WORKER, **changes}),))


def _caching(**changes: Any) -> FetcherHeartbeat:
    return fetcher(host_cache=cache_report(**changes))


@pytest.mark.parametrize(
    ("heartbeat", "field"),
    [
        (agent(sequence=2**63), "sequence"),
        (agent(accepted_version=-1), "accepted_version"),
        (
            agent(devices=(DeviceObserved(index=2**63, kind="cpu", memory_bytes=1, cores=1),)),
            "devices.index",
        ),
        (
            agent(devices=(DeviceObserved(index=0, kind="cpu", memory_bytes=1, cores=1),) * 300),
            f"devices are 300, more than {MAX_DEVICES}",
        ),
        (
            agent(devices=(DeviceObserved(index=0, kind="cpu", memory_bytes=1, cores=0),)),
            "devices.cores",
        ),
        (agent(workers=(WorkerObserved(**WORKER),) * 2), "workers name one id twice"),
        (_worker(pid=2**70), "workers.pid"),
        (_worker(address="tcp://" + "x" * 300), "workers.address"),
        (_worker(address="tcp://\x00"), "workers.address"),
        (_worker(address="nowhere"), "workers.address is no address"),
        (_worker(address="tcp://a b"), "workers.address is no address"),
        (_worker(public_key="ä" * 40), "workers.public_key is no key"),
        (_worker(public_key="k" * 39 + "~"), "workers.public_key is no key"),
        (_worker(compute_share=1.01), "workers.compute_share"),
        (_worker(compute_share=float("nan")), "workers.compute_share"),
        (_worker(compute_demand=-0.01), "workers.compute_demand"),
        (_worker(idle_ms=2**60), "workers.idle_ms"),  # no date lies so far back
        (_worker(steps=(step(detail="a\x00b"),)), "workers.steps.detail"),
        (_worker(steps=(step(started_at=datetime.min.replace(tzinfo=UTC)),)), "workers.steps.st"),
        (_worker(steps=(step(),) * 20_000), "workers.steps are 20000"),
        (agent(accepted_version=2**63 - 1), "accepted_version"),  # the next one would not fit
        (agent(num_standbys=-1), "num_standbys"),
        (
            agent(devices=(DeviceObserved(index=0, kind="cpu", memory_bytes=1, cores=1),) * 2),
            "devices name one id twice",
        ),
        (agent(engines=(EngineObserved(engine=EngineKind.STAGE),) * 2), "engines name one id"),
        (
            agent(
                unacknowledged=(
                    UnacknowledgedEnd(request_id="r", attempt=2**63, num_generated_tokens=1),
                )
            ),
            "unacknowledged.attempt",
        ),
        (fetcher(measured_bytes_per_s=float("nan")), "measured_bytes_per_s"),
        (fetcher(measured_bytes_per_s=-1.0), "measured_bytes_per_s"),
        (fetcher(nic_bytes_per_s=-1), "nic_bytes_per_s"),
        (_caching(num_units=300_000), "host_cache.num_units"),
        (_caching(version=2, since_version=3), "host_cache.since_version is 3, after 2"),
        (_caching(version=-1, since_version=-1), "host_cache.version"),
        (_caching(added=("0" * 64,) * 300), "host_cache.added are 300"),
        (_caching(removed=("0" * 64,) * 300), "host_cache.removed are 300"),
        (_caching(added=("0" * 64,), removed=("0" * 64,)), "host_cache name one id twice"),
        (_worker(public_key="short"), "workers.public_key"),
        (_worker(kv_used_bytes=-5), "workers.kv_used_bytes"),
        (fetcher(cache_used_bytes=2**64), "cache_used_bytes"),
        (fetcher(measured_bytes_per_s=float("inf")), "measured_bytes_per_s"),
        (
            fetcher(fetches=(FetchObserved(fetch_id="f", state=FetchState.QUEUED),) * 2),
            "fetches name one id twice",
        ),
        (
            fetcher(
                fetches=(FetchObserved(fetch_id="f", state=FetchState.QUEUED, bytes_done=2**63),)
            ),
            "fetches.bytes_done",
        ),
    ],
)
def test_a_field_out_of_its_limits_is_named(
    heartbeat: AgentHeartbeat | FetcherHeartbeat, field: str
) -> None:
    complaint = invalid_field(heartbeat)

    assert complaint is not None and complaint.startswith(field)


def test_every_whole_number_of_a_heartbeat_has_its_limits() -> None:
    for heartbeat in (agent(), fetcher()):
        for name, value in heartbeat:
            if type(value) is int:
                too_large = heartbeat.model_copy(update={name: 2**63})
                assert (invalid_field(too_large) or "").startswith(name), name


def test_a_report_of_an_import_is_checked_too() -> None:
    report = ImportProgressed(
        model_id="model-1", import_id="import-1", node_id="node-1", state=ImportState.RUNNING
    )
    assert invalid_field(report) is None
    assert invalid_field(report.model_copy(update={"bytes_done": 2**63})) is not None
    assert invalid_field(report.model_copy(update={"cause": "a\x00b"})) is not None
