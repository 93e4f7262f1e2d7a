"""Fetches for which nobody waits, until somebody does."""

from functools import partial

import pytest

from libs.common.states import FetchClass
from services.scheduler.simulation.cluster.fetch import Fetch, Fetcher
from services.scheduler.simulation.cluster.fluid_network import FluidNetwork
from services.scheduler.simulation.cluster.host_cache import HostCache, bits
from services.scheduler.simulation.event_queue import EventQueue

SIZES = (100, 100)  # bytes of the units of every model here
BACKGROUND, INTERACTIVE = FetchClass.BACKGROUND, FetchClass.INTERACTIVE


class Node:
    """A fetcher with 100 B/s."""

    def __init__(self) -> None:
        self.events = EventQueue()
        self.network = FluidNetwork(self.events, {"n": 100.0})
        self.done_s: dict[str, float] = {}
        self.fetcher = Fetcher(
            *("n", self.network, HostCache(1_000)),
            on_added=lambda node, manifest, units: None,
            on_removed=lambda node, manifest: None,
        )

    def fetch(self, name: str, manifest: str, fetch_class: FetchClass, *units: int) -> None:
        done = partial(self._done, name)
        self.fetcher.start(Fetch(name, manifest, bits(units), SIZES, done, fetch_class))

    def _done(self, name: str) -> None:
        self.done_s[name] = self.events.now_s


def test_a_background_fetch_waits_while_an_interactive_one_runs() -> None:
    """It has 50 of 100 B by 0.5 s, and gets nothing until the other has its 200 B at 2.5 s."""
    node = Node()
    node.fetch("late", "m", BACKGROUND, 0)
    node.events.run_until(0.5)
    node.fetch("now", "other", INTERACTIVE, 0, 1)
    node.events.run_until(10)
    assert node.done_s == {"now": pytest.approx(2.5), "late": pytest.approx(3.0)}


def test_once_somebody_waits_for_it_it_has_its_share() -> None:
    """From 1 s on both share: 50 B/s. The one has 100 B left then, the other 100 B: both have all
    at 3 s."""
    node = Node()
    node.fetch("now", "other", INTERACTIVE, 0, 1)
    node.fetch("late", "m", BACKGROUND, 0)
    node.events.run_until(1.0)
    assert node.fetcher.observed(node.fetcher.fetches["late"]).bytes_done == 0
    node.fetcher.hurry("late")
    node.events.run_until(10)
    assert node.done_s == {"now": pytest.approx(3.0), "late": pytest.approx(3.0)}


def test_what_was_brought_in_the_background_counts_when_it_is_hurried() -> None:
    """60 of 100 B by 0.6 s; hurried it needs 0.4 s more."""
    node = Node()
    node.fetch("late", "m", BACKGROUND, 0)
    node.events.run_until(0.6)
    node.fetcher.hurry("late")
    assert node.fetcher.observed(node.fetcher.fetches["late"]).bytes_done == 60
    node.events.run_until(10)
    assert node.done_s == {"late": pytest.approx(1.0)}


def test_a_start_that_needs_what_the_background_brings_hurries_it() -> None:
    """Somebody's 200 B would keep the background away until 2 s. The start at 0 s waits for the
    same unit, so that one shares from then on: 100 B at 50 B/s, 2 s."""
    node = Node()
    node.fetch("ahead", "m", BACKGROUND, 0)
    node.fetch("now", "other", INTERACTIVE, 0, 1)
    node.fetch("start", "m", INTERACTIVE, 0)
    node.events.run_until(10)
    assert node.done_s["ahead"] == node.done_s["start"] == pytest.approx(2.0)


def test_a_hurried_start_hurries_what_others_bring_for_it() -> None:
    """The first brings the unit for both, in the background; the second is what is waited for."""
    node = Node()
    node.fetch("first", "m", BACKGROUND, 0)
    node.fetch("second", "m", BACKGROUND, 0)
    node.fetch("now", "other", INTERACTIVE, 0, 1)
    node.fetcher.hurry("second")
    node.events.run_until(10)
    assert node.done_s["second"] == pytest.approx(2.0)


def test_a_fetch_that_changed_its_class_can_be_cancelled() -> None:
    node = Node()
    node.fetch("late", "m", BACKGROUND, 0)
    node.fetcher.hurry("late")
    node.fetcher.forget("late")
    node.events.run_until(10)
    assert node.done_s == {}
    assert node.network.rate_bytes_per_s("n") == 0.0
    assert node.network.rate_bytes_per_s("n", BACKGROUND) == 0.0
