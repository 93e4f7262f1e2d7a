"""The room that a round has for each model: worked out as the round goes on, the same as anew."""

import random
from dataclasses import replace

import pytest

from libs.common.states import EndpointState
from services.scheduler.policy.cluster import Deployable, DeviceSize, Endpoint
from services.scheduler.policy.network.network import Network
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.planning.feasibility import KnownDevices, shortage
from services.scheduler.policy.planning.idle_endpoints import (
    in_reclaim_order,
    may_be_reclaimed,
)
from services.scheduler.policy.planning.planner import plan
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.planning.projected_cluster import with_plans
from services.scheduler.policy.planning.reclaim import is_leaving
from services.scheduler.policy.planning.round_room import RoundRoom
from services.scheduler.policy.planning.start_queue import StartQueue
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.policy.tables.snapshot_tables import endpoint_table
from tests.unit.scheduler.planning.random_clusters import (
    random_model,
    random_nodes,
    with_endpoints,
)
from tests.unit.scheduler.planning.reference import reference_cluster, reference_reclaim
from tests.unit.scheduler.values import NOW_S, cluster, snapshot

MODELS = [f"waiting-{i}" for i in range(6)]


def waiting(rng: random.Random) -> dict[str, Deployable]:
    """Each has units of its own."""
    return {id_: own_units(random_model(rng), id_, i) for i, id_ in enumerate(MODELS)}


def own_units(wanted: Deployable, model_id: str, number: int) -> Deployable:
    units = tuple(
        unit.model_copy(update={"digest": f"{number + 1}{unit.digest[1:]}"})
        for unit in wanted.summary.units
    )
    own = wanted.summary.model_copy(update={"units": units})
    return replace(wanted, model=replace(wanted.model, id=model_id), summary=own)


def alike(nodes: tuple[Node, ...]) -> list[Node]:
    """In whatever order their host caches were claimed."""
    return [replace(n, cache_pins=tuple(sorted(n.cache_pins, key=repr))) for n in nodes]


def claims(rng: random.Random, nodes: list[Node], wanted: dict[str, Deployable]) -> StartQueue:
    found = {id_: plan(cluster(*nodes), w) for id_, w in wanted.items() if rng.random() < 0.5}
    plans = {id_: claimed for id_, claimed in found.items() if isinstance(claimed, Plan)}
    return StartQueue(order=tuple(MODELS), claims=plans)


def with_states(rng: random.Random, endpoints: list[Endpoint]) -> dict[str, Endpoint]:
    states = (EndpointState.STANDALONE, EndpointState.STANDALONE, EndpointState.DRAINING)
    return {e.id: replace(e, state=rng.choice(states), model_id="other") for e in endpoints}


def drained(before: Snapshot, victims: tuple[Endpoint, ...]) -> Snapshot:
    changes = {e.id: replace(e, state=EndpointState.DRAINING) for e in victims}
    return before.changed(endpoints=before.endpoints.updated(changes))


@pytest.mark.parametrize(
    "num_trials", [50, pytest.param(150, marks=[pytest.mark.long, pytest.mark.timeout(300)])]
)
def test_each_model_finds_the_room_that_those_in_front_leave(num_trials: int) -> None:
    rng, num_reclaims = random.Random(1), 0
    for trial in range(num_trials):
        wanted = waiting(rng)
        nodes = random_nodes(rng, wanted[MODELS[0]])
        nodes, endpoints = with_endpoints(rng, nodes, wanted[MODELS[0]])
        queue = claims(rng, nodes, wanted)
        now = snapshot(endpoints=with_states(rng, endpoints).values(), queue=queue)
        room = RoundRoom(now, cluster(*nodes), KnownDevices(), Network.of({}))
        started: list[Plan] = []

        for place, id_ in enumerate(MODELS):
            if rng.random() < 0.3:
                continue  # it was reached in an earlier round
            taken = [*started, *now.queue.claims_between(0, place)]
            room.pass_to(now.queue, place)
            plain = reference_cluster.with_plans(nodes, taken)

            found_nodes = room.now(now, id_).nodes
            assert alike(found_nodes) == alike(cluster(*plain).nodes), f"trial {trial}"
            found = room.reclaim(now, wanted[id_])
            idle = [e for e in now.endpoints if e.idle_s(NOW_S) is not None and not is_leaving(e)]
            order = [e for e in in_reclaim_order(now, idle) if may_be_reclaimed(now, e)]
            assert found == reference_reclaim.reclaim(
                plain, tuple(now.endpoints), order, wanted[id_]
            ), f"trial {trial}"
            held = reference_reclaim.outlast(plain, tuple(now.endpoints), wanted[id_])
            assert room.outlast(now, wanted[id_]) == held, f"trial {trial}"

            chosen = plan(room.now(now, id_), wanted[id_])
            if isinstance(chosen, Plan):
                room.start(chosen, "endpoint", None)
                started.append(chosen)
                now = now.changed(queue=now.queue.claim(id_, None))
            elif found is not None:
                num_reclaims += 1
                now = drained(now, found.victims)
                now = now.changed(queue=now.queue.claim(id_, found.plan))
    assert num_reclaims > num_trials // 3


def sizes_of(nodes: tuple[Node, ...]) -> tuple[DeviceSize, ...]:
    return tuple(
        DeviceSize(
            *(n.id, d.index, d.memory_bytes, n.cache_bytes, n.nic_bytes_per_s, d.worker_bytes),
            has_bfloat16=d.has_bfloat16,
        )
        for n in nodes
        for d in n.devices
    )


def usable_sizes(known: tuple[DeviceSize, ...], nodes: tuple[Node, ...]) -> list[DeviceSize]:
    """As one would first write it."""
    by_id = {node.id: node for node in nodes}
    return [
        replace(size, cache_bytes=by_id[size.node_id].cache_bytes)
        for size in known
        if size.node_id in by_id
    ]


def test_what_empty_devices_lack_is_the_same_as_asked_anew() -> None:
    rng, known, answers = random.Random(2), KnownDevices(), set()
    sizes: tuple[DeviceSize, ...] = ()
    for trial in range(300):
        wanted = random_model(rng)
        wanted = replace(wanted, manifest_digest=str(trial))
        nodes = cluster(*random_nodes(rng, wanted)).nodes
        if rng.random() < 0.3 or not sizes:
            sizes = sizes_of(nodes)  # read anew
        usable = tuple(
            replace(node, cache_bytes=rng.choice((None, node.cache_bytes, 10**6)))
            for node in nodes
            if rng.random() < 0.8
        )
        there = cluster(*usable)

        for devices in (known.all(sizes), known.all(sizes)):
            assert devices.shortage(wanted) == shortage(wanted, sizes), f"trial {trial}"
        expected = shortage(wanted, usable_sizes(sizes, usable))
        assert known.usable(sizes, there).shortage(wanted) == expected, f"trial {trial}"
        answers.add("" if expected is None else expected.partition("needs")[2][:3])
    assert len(answers) > 1


def test_claims_are_taken_once_however_many_models_are_behind() -> None:
    rng = random.Random(3)
    wanted = waiting(rng)
    nodes = random_nodes(rng, wanted[MODELS[0]])
    queue = claims(rng, nodes, wanted)
    now = snapshot(queue=queue, endpoints=endpoint_table())
    room = RoundRoom(now, cluster(*nodes), KnownDevices(), Network.of({}))

    room.pass_to(queue, 5)
    last = room.now(now, MODELS[-1])
    room.pass_to(queue, 5)

    plain = with_plans(cluster(*nodes), queue.claims_between(0, 5))
    assert last.nodes == plain.nodes
    assert room.now(now, MODELS[-1]) is last
