"""Clusters and models of every kind, from a seed."""

import random
from dataclasses import replace

from services.scheduler.policy.cluster import Deployable, Device, Endpoint
from services.scheduler.policy.nodes.node import CachePin, Node
from services.scheduler.policy.planning.memory import file_bytes, full_bytes
from tests.unit.scheduler.values import (
    NOW_S,
    deployable,
    device,
    endpoint,
    model,
    node,
    summary,
    worker,
)

UNIT_BYTES = 1_000_000


def random_model(rng: random.Random) -> Deployable:
    layers = [rng.choice((1, 1, 2, 3)) * UNIT_BYTES for _ in range(rng.randint(1, 12))]
    sizes = (rng.randint(1, 4) * UNIT_BYTES, *layers, 10)
    registered = model(
        max_pipeline_size=rng.choice((1, 2, 3, 4, 8, 12)),
        kv_cache_bytes=rng.choice((0, 100_000, 3 * UNIT_BYTES)),
    )
    return deployable(registered, summary(unit_sizes=sizes, dtype=rng.choice(("BF16", "F16"))))


def with_caches(rng: random.Random, wanted: Deployable, nodes: list[Node]) -> Deployable:
    """Some nodes hold all, others a part, most nothing of the model."""
    digests = [unit.digest for unit in wanted.summary.units]
    held = {
        there.id: rng.sample(digests, rng.choice((0, 1, len(digests) // 2, len(digests))))
        for there in nodes
        if rng.random() < 0.4
    }
    return deployable(wanted.model, wanted.summary, held)


def random_nodes(rng: random.Random, wanted: Deployable, max_nodes: int = 12) -> list[Node]:
    """Alike in all, or each different: many that are equal are the rule in a real cluster."""
    num_kinds = rng.choice((1, 2, 5))
    kinds = [_random_kind(rng, wanted) for _ in range(num_kinds)]
    return [
        _named(rng, rng.choice(kinds), f"node-{index}")
        for index in range(rng.randint(0, max_nodes))
    ]


def _random_kind(rng: random.Random, wanted: Deployable) -> Node:
    full = full_bytes(wanted.model, wanted.summary)
    devices = [_random_device(rng, full, index) for index in range(rng.choice((1, 1, 2, 4)))]
    files = sum(file_bytes(unit) for unit in wanted.summary.units)
    return replace(
        node(*devices, nic=rng.choice((0, 10**6, 3 * 10**6, 10**7))),
        num_fetches=rng.choice((0, 0, 1, 3)),
        num_standbys=rng.choice((0, 0, 1, 2)),
        cache_bytes=rng.choice((None, 10 * files, int(files * rng.uniform(0.2, 1.5)))),
    )


def _random_device(rng: random.Random, full: int, index: int) -> Device:
    made = device(
        "kind",
        memory=int(full * rng.choice((0, 0.1, 0.5, 0.9, 1.0, 2.0))),
        index=index,
        reserved=rng.choice((0, 0, full // 3, full)),
        worker_bytes=rng.choice((0, 0, full // 10)),
    )
    return replace(
        made, launch_s=rng.choice((0.5, 1.5, 1.51, 4.0)), has_bfloat16=rng.random() < 0.8
    )


def _named(rng: random.Random, kind: Node, name: str) -> Node:
    """A node of that kind, a little different now and then."""
    changed = replace(
        kind,
        id=name,
        devices=tuple(replace(device_, node_id=name) for device_ in kind.devices),
        is_suspect=rng.random() < 0.15,
    )
    if rng.random() < 0.3:
        changed = replace(changed, num_fetches=rng.randint(0, 3))
    if rng.random() < 0.3:
        changed = replace(changed, nic_bytes_per_s=rng.randint(1, 10**7))
    return changed


def with_endpoints(
    rng: random.Random, nodes: list[Node], wanted: Deployable
) -> tuple[list[Node], list[Endpoint]]:
    """The same nodes with endpoints whose workers are reserved there; some hold the model's units,
    some run over several nodes."""
    endpoints, by_id = [], {there.id: there for there in nodes if there.devices}
    for number in range(rng.randint(0, 3 * len(by_id))):
        chosen = rng.sample(sorted(by_id), min(len(by_id), rng.choice((1, 1, 1, 2, 3))))
        workers = []
        for index, node_id in enumerate(chosen):
            there = by_id[node_id]
            place = rng.choice(there.devices)
            taken = max(0, place.free_bytes // rng.choice((1, 2, 4)))
            workers.append(
                worker(
                    id=f"worker-{number}-{index}",
                    endpoint_id=f"endpoint-{number}",
                    node_id=node_id,
                    device_index=place.index,
                    device_bytes=taken,
                )
            )
            by_id[node_id] = _occupied(rng, there, workers[-1].id, place.index, taken, wanted)
        idle_since_s = rng.choice((None, NOW_S - 5, NOW_S - rng.randint(1, 50)))
        endpoints.append(
            endpoint(id=f"endpoint-{number}", workers=tuple(workers), idle_since_s=idle_since_s)
        )
    return [by_id.get(there.id, there) for there in nodes], endpoints


def _occupied(
    rng: random.Random, there: Node, worker_id: str, index: int, taken: int, wanted: Deployable
) -> Node:
    devices = tuple(
        replace(d, reserved_bytes=d.reserved_bytes + taken) if d.index == index else d
        for d in there.devices
    )
    own = rng.sample(list(wanted.summary.units), rng.randint(0, 2))
    held = {unit.digest: file_bytes(unit) for unit in own}
    held[f"other {rng.randint(0, 5)}"] = UNIT_BYTES
    return replace(
        there, devices=devices, cache_pins=(*there.cache_pins, CachePin(worker_id, held))
    )
