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


def test_the_only_one_that_serves_stays_while_another_one_starts() -> None:
    """A burst of three takes two endpoints; the second takes 90 s to start, and for longer than
    the window of 40 s one is enough. One request waits for it, the others go to the first."""
    played = playing()
    played.ask("model-1")
    played.play(10.0)
    played.start_s = 90.0
    for _ in range(3):
        played.ask("model-1")

    since, (first,) = len(played.decided), played.live("model-1")
    for _ in range(160):
        if all(r.endpoint_id not in (None, first.id) for r in played.cluster.requests.values()):
            played.ask("model-1")
        played.step()

    assert not [x for x in played.decided[since:] if isinstance(x, d.DrainEndpoint)]
    assert max(list(played.waits_s.values())[1:]) <= 2.0, "it answered all the time"


def test_a_lower_limit_holds_for_a_model_whose_load_lasts() -> None:
    played = playing(service_s=3.0)
    ask_many(played, 30.0)
    assert len(played.live("model-1")) == 4

    played.cluster.models["model-1"] = replace(MODEL, max_endpoints=1)
    decided = ask_many(played, 50.0)

    drained = [x.why for x in decided if isinstance(x, d.DrainEndpoint)]
    assert drained == ["the model may have no more endpoints than 1"] * 3
    assert len(played.live("model-1")) == 1


def ask_many(played: PlayedCluster, seconds: float) -> list[d.Decision]:
    """Eight requests in flight, all the time: four endpoints with two places each."""
    since, until_s = len(played.decided), played.now_s + seconds
    while played.now_s < until_s:
        while len(played.cluster.requests) < 8:
            played.ask("model-1")
        played.step()
    return played.decided[since:]
