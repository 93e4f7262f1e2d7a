"""Endpoints that are too many go, after a while, although they have work."""

from dataclasses import replace

from libs.common.states import StartPurpose
from services.scheduler.policy import decisions as d
from tests.unit.scheduler.decide.played import PlayedCluster
from tests.unit.scheduler.snapshots import SmallCluster, a_model
from tests.unit.scheduler.values import summary

MODEL_BYTES = summary().weight_bytes + 100
MODEL = a_model("model-1", max_slots=2, max_endpoints=4, keep_alive_s=40.0)


def playing(service_s: float = 1.0) -> PlayedCluster:
    made = SmallCluster()
    made.add_node("node-1", memory_bytes=4 * MODEL_BYTES)
    made.add_model(MODEL, summary())
    return PlayedCluster(made, service_s=service_s)


def ask_each_step(played: PlayedCluster, seconds: float) -> list[d.Decision]:
    """One request in flight, all the time."""
    since, until_s = len(played.decided), played.now_s + seconds
    while played.now_s < until_s:
        if not played.cluster.requests:
            played.ask("model-1")
        played.step()
    return played.decided[since:]


def test_a_surplus_goes_once_a_lower_need_has_held_for_the_window() -> None:
    played = playing()
    for _ in range(8):
        played.ask("model-1")
    played.play(7.0)
    assert len(played.live("model-1")) == 4

    at_first = ask_each_step(played, 35.0)
    later = ask_each_step(played, 20.0)

    assert not [x for x in at_first if isinstance(x, d.DrainEndpoint)]
    drained = [x.why for x in later if isinstance(x, d.DrainEndpoint)]
    assert len(drained) == 3
    assert len(played.live("model-1")) == 1, "the last one goes by its keep-alive"


def test_a_need_that_comes_again_within_the_window_keeps_them() -> None:
    played = playing()
    for _ in range(6):
        for _ in range(8):
            played.ask("model-1")
        played.play(7.0)
        ask_each_step(played, 25.0)

    assert len(played.live("model-1")) == 4
    assert not [x for x in played.decided if isinstance(x, d.DrainEndpoint)]


def test_requests_that_come_more_often_start_another_endpoint_before_any_waits() -> None:
    """2 a second, each for 3.5 s as sweeps see it, are seven at any time: one endpoint has eight
    places, and at 80 % they take 8.75."""
    played = playing(service_s=3.0)
    played.cluster.add_model(replace(MODEL, max_slots=8), summary())
    played.ask("model-1")
    played.play(12.0)
    assert len(played.live("model-1")) == 1

    for _ in range(60):
        played.ask("model-1")
        played.step()

    purposes = [x.purpose for x in played.decided if isinstance(x, d.StartEndpoint)]
    assert purposes == [StartPurpose.REQUEST, StartPurpose.LOAD]
    first, *others = played.waits_s.values()
    assert first >= played.start_s and max(others) <= 1.0


def test_a_start_that_the_load_needs_goes_on_although_nobody_waits_any_more() -> None:
    """One in 1.5 s for 3 s and more: of an endpoint of two places each third one waits a moment."""
    played = playing(service_s=3.0)
    played.ask("model-1")
    played.play(12.0)
    for _ in range(24):
        played.ask("model-1")
        played.play(1.5)

    abandoned = [x for x in played.decided if isinstance(x, d.StopWorkers)]
    assert len(played.live("model-1")) == 2
    assert len(abandoned) <= 2, "before it was known how often they come"
