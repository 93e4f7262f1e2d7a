"""Which devices come first, found node by node: the same as of all devices one by one."""

import random
from dataclasses import replace

import numpy as np
import pytest

from services.scheduler.policy.cluster import Device
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.planning.memory import files_bytes
from services.scheduler.policy.planning.model_shape import ModelShape
from services.scheduler.policy.planning.offers import Offer, files_needed, ready_s
from services.scheduler.policy.planning.survey import SAME_S, Survey
from tests.unit.scheduler.planning.random_clusters import random_model, random_nodes, with_caches
from tests.unit.scheduler.values import cluster

NUM_TRIALS = 150


def surveys(seed: int, *, is_even: bool = False) -> list[tuple[Survey, list[Node]]]:
    """Of up to 80 nodes; `is_even`: a process launches as fast on all devices of a node."""
    rng, found = random.Random(seed), []
    for _ in range(NUM_TRIALS):
        wanted = random_model(rng)
        nodes = random_nodes(rng, wanted, max_nodes=80)
        if is_even:
            nodes = [replace(n, devices=tuple(map(launched_alike, n.devices))) for n in nodes]
        if rng.random() < 0.5:
            wanted = with_caches(rng, wanted, nodes)
        found.append((Survey(cluster(*nodes), ModelShape(wanted)), nodes))
    return found


def launched_alike(device: Device) -> Device:
    return replace(device, launch_s=1.5)


def all_offers(survey: Survey, nodes: list[Node]) -> list[Offer]:
    """Of devices that have room and compute the model's type."""
    dtype = survey.shape.deployable.summary.dtype
    return [
        Offer.of(node, device, survey.shape)
        for node in nodes
        for device in node.devices
        if device.room_bytes > 0 and device.computes(dtype)
    ]


def holds_all(survey: Survey, offer: Offer) -> bool:
    summary = survey.shape.deployable.summary
    needed = files_needed(offer.node, summary.units, survey.shape)
    has_cache = offer.cache_free_bytes >= min(needed, files_bytes(summary))
    return offer.free_bytes >= survey.shape.needed_bytes and has_cache


def in_order(offers: list[Offer], share_bytes: float) -> list[tuple[str, int]]:
    """The order of `Survey.soonest`, as one would first write it."""

    def rank(offer: Offer) -> tuple[object, ...]:
        fetch_s = max(0.0, share_bytes - offer.cached_bytes) / offer.rate_bytes_per_s
        has_standby = offer.node.num_standbys > 0
        start_s = ready_s(fetch_s, offer.launch_s(has_standby), offer.node.tail_s)
        at = round(start_s / SAME_S)
        return (offer.node.is_suspect, at, not has_standby, fetch_s, -offer.room_bytes, offer.place)

    return [offer.place for offer in sorted(offers, key=rank)]


@pytest.mark.parametrize("is_even", [True, False])
def test_the_first_with_room_for_the_whole_model_are_those_of_all_devices(is_even: bool) -> None:
    num_found = set()
    for trial, (survey, nodes) in enumerate(surveys(1, is_even=is_even)):
        mains = survey.with_whole_room(survey.all_mains)
        whole = [o for o in all_offers(survey, nodes) if holds_all(survey, o)]
        share_bytes = survey.shape.deployable.summary.weight_bytes
        for count in (1, 4):
            found = [o.place for o in survey.soonest_whole(mains, count)] if len(mains) else []

            assert found == in_order(whole, share_bytes)[:count], f"trial {trial}"
            num_found.add(len(found))
    assert num_found >= {0, 1, 4}


def test_the_emptiest_device_of_each_node_has_most_room() -> None:
    for survey, nodes in surveys(2):
        by_node: dict[str, list[Offer]] = {}
        for offer in all_offers(survey, nodes):
            by_node.setdefault(offer.node.id, []).append(offer)
        most = [max(own, key=lambda o: o.free_bytes).place for own in by_node.values()]

        found = [offer.place for offer in survey.offers(survey.all_mains)]

        assert found == sorted(most)
        trusted = [offer.place for offer in survey.offers(survey.trusted_mains)]
        suspect = {node.id for node in nodes if node.is_suspect}
        assert trusted == [place for place in found if place[0] not in suspect]


def test_the_largest_rooms_are_those_of_all_devices() -> None:
    for survey, nodes in surveys(3):
        rooms = sorted((o.free_bytes for o in all_offers(survey, nodes)), reverse=True)
        dtype = survey.shape.deployable.summary.dtype
        for count in (1, 3, 70):
            found = survey.cluster.largest_rooms(dtype, count)
            assert [room for room in found if room] == rooms[:count]
            places = survey.cluster.emptiest_places(dtype, count)
            room_of = survey.cluster.rooms_for(dtype)
            assert all(room_of[place] == room for place, room in places)
        assert survey.cluster.largest_room(dtype) == max(rooms, default=0)
        assert survey.cluster.num_devices == sum(len(node.devices) for node in nodes)


def test_one_device_has_whole_room_where_it_is_found_among_many() -> None:
    for survey, _ in surveys(4):
        mains = survey.all_mains
        found = {offer.place for offer in survey.offers(survey.with_whole_room(mains))}
        alone = {o.place for o in survey.offers(mains) if survey.has_whole_room(o)}
        assert alone == found
        assert len(np.unique(mains)) == len(mains)
