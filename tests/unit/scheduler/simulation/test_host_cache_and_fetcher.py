from functools import partial

import pytest

from libs.common.states import FetchState
from services.scheduler.simulation.cluster.fetch import Fetch, Fetcher
from services.scheduler.simulation.cluster.fluid_network import FluidNetwork
from services.scheduler.simulation.cluster.host_cache import HostCache, bits, size_of
from services.scheduler.simulation.event_queue import EventQueue

SIZES = (100, 50, 50)  # bytes of the units of every model here


class Node:
    """A fetcher with 100 B/s, and what it told."""

    def __init__(self, capacity: int = 1_000) -> None:
        self.events = EventQueue()
        network = FluidNetwork(self.events, {"n": 100.0})
        self.cache = HostCache(capacity)
        self.added: list[tuple[str, int]] = []
        self.removed: list[str] = []
        self.done_s: dict[str, float] = {}
        self.fetcher = Fetcher(
            *("n", network, self.cache),
            on_added=lambda _, manifest, units: self.added.append((manifest, units)),
            on_removed=lambda _, manifest: self.removed.append(manifest),
        )

    def fetch(self, name: str, manifest: str, *units: int) -> Fetch:
        fetch = Fetch(name, manifest, bits(units), SIZES, partial(self._done, name))
        self.fetcher.start(fetch)
        return fetch

    def _done(self, name: str) -> None:
        self.done_s[name] = self.events.now_s


def test_bits_stand_for_units() -> None:
    assert bits([0, 2]) == 0b101
    assert size_of(0b101, SIZES) == 150


def test_only_what_is_missing_is_fetched() -> None:
    """150 B take 1.5 s; of all three units 50 B are missing then, 0.5 s."""
    node = Node()
    node.fetch("first", "m", 0, 1)
    node.events.run_until(1.5)
    second = node.fetch("second", "m", 0, 1, 2)
    assert (second.bytes_total, second.bytes_from_cache) == (200, 150)
    node.events.run_until(10)
    assert node.done_s == {"first": 1.5, "second": pytest.approx(2.0)}
    assert node.added == [("m", 0b011), ("m", 0b100)]


def test_what_another_fetch_is_bringing_is_waited_for() -> None:
    """The second brings unit 2 alone and waits for unit 0 of the first. Both have 50 B/s: the
    second has its 50 B at 1 s, the first then has 50 of 100 B and the rest at 1.5 s: then both
    have all."""
    node = Node()
    node.fetch("first", "m", 0)
    second = node.fetch("second", "m", 0, 2)
    assert second.own == bits([2])
    node.events.run_until(10)
    assert node.done_s == {"first": pytest.approx(1.5), "second": pytest.approx(1.5)}


def test_what_is_held_already_is_there_at_once() -> None:
    node = Node()
    node.fetch("first", "m", 0)
    node.events.run_until(5)
    node.fetch("second", "m", 0)
    assert node.done_s["second"] == 5


def test_a_forgotten_fetch_stops_unless_somebody_waits_for_its_units() -> None:
    node = Node()
    node.fetch("alone", "m", 0)
    node.fetcher.forget("alone")
    node.fetch("first", "k", 0)
    node.fetch("follower", "k", 0)
    node.fetcher.forget("first")
    node.events.run_until(10)
    assert node.done_s == {"follower": pytest.approx(1.0)}
    assert node.added == [("k", 0b1)]


def test_progress_is_told_in_bytes() -> None:
    node = Node()
    fetch = node.fetch("first", "m", 0, 1)
    node.events.run_until(0.5)
    seen = node.fetcher.observed(fetch)
    assert (seen.state, seen.bytes_done, seen.bytes_total) == (FetchState.FETCHING, 50, 150)


def test_the_model_used_longest_ago_goes_first_and_what_is_pinned_stays() -> None:
    """Room for two models of 200 B and a half: the third takes that of the oldest unpinned one."""
    cache = HostCache(500)
    for manifest in ("a", "b"):
        cache.add(manifest, 0b111, SIZES)
    cache.pin("a")
    assert cache.add("c", 0b111, SIZES) == ["b"]
    assert (cache.held("a"), cache.held("b"), cache.used_bytes) == (0b111, 0, 400)
    cache.unpin("a")
    assert cache.drop_unpinned("a")
    assert not cache.drop_unpinned("a")
    assert cache.used_bytes == 200
