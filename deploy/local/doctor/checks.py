"""Which promises a stack breaks, by what was read of it. Pure: values in, values out."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from deploy.local.doctor.promises import Broken, Promise
from deploy.local.doctor.values import (
    MemberRecord,
    NodeRecord,
    NodeState,
    Records,
    StackState,
    UnitFile,
    WorkerRecord,
)
from libs.common.states import RequestState

DEADLINE_GRACE_S = 10.0  # a round may be late, and Postgres may have been away
GATEWAY_LOST_S = 10.0  # of silence; then its requests end
GATEWAY_GRACE_S = 10.0


def find_broken(state: StackState) -> tuple[Broken, ...]:
    """What does not hold. Most of it may be true for a moment: see `Broken.is_always`."""
    return (
        *chain.from_iterable(check(state.records) for check in RECORD_CHECKS),
        *_cached_units(state),
        *chain.from_iterable(_units(node) for node in state.nodes),
        *_processes(state),
        *(
            Broken(Promise.ENDED_STACK, folder, f"{folder} is of a supervisor that has died")
            for folder in state.abandoned_folders
        ),
    )


# ------------------------------------------------------------------ requests


def _ends(records: Records) -> Iterator[Broken]:
    for request in records.requests:
        has_ended = request.state == RequestState.ENDED
        if has_ended != (request.outcome is not None) or has_ended != request.has_end:
            text = f"request {request.id} is {request.state} with the outcome {request.outcome}"
            yield Broken(Promise.REQUEST_ENDS, request.id, text, is_always=True)
        elif not has_ended and request.overdue_s > DEADLINE_GRACE_S:
            text = f"request {request.id} is open {request.overdue_s:.1f} s after its deadline"
            yield Broken(Promise.REQUEST_ENDS, request.id, text)


def _orphans(records: Records) -> Iterator[Broken]:
    for request in records.requests:
        silence_s = request.gateway_silence_s
        silent_s = request.age_s if silence_s is None else silence_s
        is_open = request.state != RequestState.ENDED
        if is_open and silent_s > GATEWAY_LOST_S + GATEWAY_GRACE_S:
            text = f"request {request.id} is open, its gateway silent for {silent_s:.1f} s"
            yield Broken(Promise.ORPHANED_REQUEST_ENDS, request.id, text)


def _usage(records: Records) -> Iterator[Broken]:
    for usage in records.usage:
        whose = f"usage of model {usage.model_id} by {usage.tenant}"
        if usage.least < 0:
            yield Broken(Promise.USAGE_ONCE, whose, f"{whose} is below zero", is_always=True)
        if usage.num_requests > usage.num_accounted:
            text = f"{whose} has {usage.num_requests} requests, {usage.num_accounted} were counted"
            yield Broken(Promise.USAGE_ONCE, whose, text, is_always=True)


# ------------------------------------------------- memory, workers, endpoints


def _devices(records: Records) -> Iterator[Broken]:
    for device in records.devices:
        if device.reserved_bytes > device.memory_bytes:
            held = f"{device.reserved_bytes} of {device.memory_bytes} bytes are reserved"
            where = f"device {device.index} of {device.node_id}"
            yield Broken(Promise.DEVICE_MEMORY, where, f"{held} on {where}", is_always=True)


def _reservations(records: Records) -> Iterator[Broken]:
    for worker in records.workers:
        if worker.is_finished and worker.has_reservation:
            text = f"worker {worker.id} has ended and holds memory of {worker.node_id}"
            yield Broken(Promise.RESERVATION_OF_WORKER, worker.id, text)
        if not worker.is_finished and not worker.has_reservation:
            text = f"worker {worker.id} lives without memory on {worker.node_id}"
            yield Broken(Promise.RESERVATION_OF_WORKER, worker.id, text)


def _finished_workers(records: Records) -> Iterator[Broken]:
    for worker in records.workers:
        if worker.is_finished and not worker.has_end:
            text = f"worker {worker.id} has ended without a time"
            yield Broken(Promise.ENDED_WORKER, worker.id, text)


def _finished_endpoints(records: Records) -> Iterator[Broken]:
    finished = {endpoint.id for endpoint in records.endpoints if endpoint.is_finished}
    for worker in records.workers:
        if worker.endpoint_id in finished and worker.is_desired:
            text = f"endpoint {worker.endpoint_id} has ended and wants worker {worker.id}"
            yield Broken(Promise.ENDED_ENDPOINT, worker.id, text)
    for endpoint in records.endpoints:
        if endpoint.is_finished and not endpoint.has_end:
            text = f"endpoint {endpoint.id} has ended without a time"
            yield Broken(Promise.ENDED_ENDPOINT, endpoint.id, text)


def _layers(records: Records) -> Iterator[Broken]:
    for endpoint in records.endpoints:
        if not endpoint.is_serving:
            continue
        workers = [worker for worker in records.workers if worker.endpoint_id == endpoint.id]
        members = endpoint.members or tuple(map(_as_member, workers))
        for fault in layer_faults(members, endpoint.num_layers):
            yield Broken(Promise.LAYERS_ONCE, endpoint.id, f"endpoint {endpoint.id}: {fault}")


def _as_member(worker: WorkerRecord) -> MemberRecord:
    is_entry = worker.stage_index == 0
    return MemberRecord(worker.id, is_entry, worker.first_layer, worker.last_layer)


def layer_faults(members: Sequence[MemberRecord], num_layers: int) -> Iterator[str]:
    """Where the members' layers are not all layers, each once; and whether one is the entry."""
    held = Counter(
        layer for member in members for layer in range(member.first_layer, member.last_layer)
    )
    if missing := [layer for layer in range(num_layers) if not held[layer]]:
        yield f"nobody holds layers {missing}"
    if twice := sorted(layer for layer, count in held.items() if count > 1):
        yield f"several hold layers {twice}"
    if beyond := sorted(layer for layer in held if not 0 <= layer < num_layers):
        yield f"layers {beyond} are none of its model's"
    if (num_entries := sum(member.is_entry for member in members)) != 1:
        yield f"{num_entries} members are its entry"


def _tenants(records: Records) -> Iterator[Broken]:
    owners = {endpoint.id: endpoint for endpoint in records.endpoints}
    for worker in records.workers:
        endpoint = owners.get(worker.endpoint_id)
        if endpoint is not None and endpoint.tenant != worker.tenant:
            text = f"worker {worker.id} of tenant {endpoint.tenant} has a model of {worker.tenant}"
            yield Broken(Promise.TENANTS, worker.id, text, is_always=True)


# ---------------------------------------------------------- leader and nodes


def _leadership(records: Records) -> Iterator[Broken]:
    if records.num_leaderships != 1:
        text = f"there are {records.num_leaderships} rows of leadership"
        yield Broken(Promise.ONE_LEADER, "leadership", text, is_always=True)


def _versions(records: Records) -> Iterator[Broken]:
    for node in records.nodes:
        accepted = max(node.agent_accepted_version, node.fetcher_accepted_version)
        if accepted > node.desired_version:
            text = f"{node.id} accepted version {accepted}, {node.desired_version} is the latest"
            yield Broken(Promise.VERSIONS, node.id, text)


def _cached_units(state: StackState) -> Iterator[Broken]:
    seen = {node.node_id: node for node in state.nodes}
    for record in state.records.nodes:
        node = seen.get(record.id)
        if node is not None and node.units is not None:
            yield from _missing_units(record, node.units)


def _missing_units(record: NodeRecord, units: Sequence[UnitFile]) -> Iterator[Broken]:
    complete = {unit.digest for unit in units if unit.is_complete}
    for digest in sorted(record.cached_units - complete):
        text = f"unit {digest} is recorded as cached on {record.id} and is not complete there"
        yield Broken(Promise.HOST_CACHE, f"{record.id} {digest}", text)


def _units(node: NodeState) -> Iterator[Broken]:
    for unit in node.units or ():
        for fault in unit_faults(unit):
            text = f"unit {unit.digest} on {node.node_id}: {fault}"
            yield Broken(Promise.VERIFIED_BYTES, f"{node.node_id} {unit.digest}", text)


def unit_faults(unit: UnitFile) -> Iterator[str]:
    """What a unit file's header says against itself, or against its bytes."""
    if unit.fault is not None:
        yield unit.fault
        return
    if unit.is_complete and unit.verified_bytes != unit.size_bytes:
        yield f"complete with {unit.verified_bytes} of {unit.size_bytes} bytes readable"
    if unit.verified_bytes > unit.verified_prefix_bytes:
        yield f"{unit.verified_bytes} bytes readable, {unit.verified_prefix_bytes} verified"
    if unit.is_complete and unit.computed_digest not in (None, unit.digest):
        yield f"its bytes have the digest {unit.computed_digest}"


def _processes(state: StackState) -> Iterator[Broken]:
    """Each process that became a worker belongs to a worker that has not ended."""
    workers = state.records.workers
    known = {(worker.node_id, worker.pid) for worker in workers if not worker.is_finished}
    for node in state.nodes:
        for pid in sorted(node.worker_pids):
            if (node.node_id, pid) not in known:
                text = f"process {pid} on {node.node_id} belongs to no worker that lives"
                yield Broken(Promise.ENDED_WORKER, f"process {pid}", text)


RECORD_CHECKS: tuple[Callable[[Records], Iterator[Broken]], ...] = (
    _ends,
    _orphans,
    _usage,
    _devices,
    _reservations,
    _finished_workers,
    _finished_endpoints,
    _layers,
    _tenants,
    _leadership,
    _versions,
)
