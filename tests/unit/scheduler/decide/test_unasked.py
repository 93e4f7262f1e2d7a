"""Endpoints that nobody waits for: pins, preloads, and what is started ahead."""

from dataclasses import replace
from typing import Any

from libs.common.states import EndpointState, ModelCommandKind, StartPurpose
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import Model
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.gap_history import history_of
from services.scheduler.policy.scaling.unasked import ModelCommand
from tests.unit.scheduler.decide.played import PlayedCluster
from tests.unit.scheduler.snapshots import NOW_S, SmallCluster, a_model
from tests.unit.scheduler.values import summary

MODEL_BYTES = summary().weight_bytes + 100


def with_models(*models: Model, num_places: int = 2, service_s: float = 1.0) -> PlayedCluster:
    """One node, with room for so many endpoints."""
    made = SmallCluster()
    made.add_node("node-1", memory_bytes=num_places * MODEL_BYTES)
    for model in models:
        made.add_model(model, summary())
    return PlayedCluster(made, service_s=service_s)


def tell(played: PlayedCluster, **fields: Any) -> None:
    """What the rows say."""
    played.snapshot = played.snapshot.changed(**fields)


def command(kind: ModelCommandKind, model_id: str = "model-1") -> dict[str, Any]:
    asked = ModelCommand(f"{kind}-1", model_id, kind, deadline_at_s=NOW_S + 60.0)
    return {"commands": {model_id: (asked,)}, "unasked": frozenset({model_id})}


def starts(decided: list[d.Decision]) -> list[tuple[str, StartPurpose]]:
    return [(x.model_id, x.purpose) for x in decided if isinstance(x, d.StartEndpoint)]


PINNED_ONE = a_model("model-1", min_endpoints=1)
PINNED = a_model("model-1", min_endpoints=2, max_endpoints=3, keep_alive_s=5.0)


def test_a_pinned_model_has_its_endpoints_before_anybody_asks_and_keeps_them() -> None:
    played = with_models(PINNED, num_places=4)
    tell(played, unasked=frozenset({"model-1"}))

    decided = played.play(60.0)

    assert starts(decided) == [("model-1", StartPurpose.MINIMUM)] * 2
    assert not [x for x in decided if isinstance(x, d.DrainEndpoint)]
    assert [e.state for e in played.live("model-1")] == [EndpointState.STANDALONE] * 2


def test_more_than_are_pinned_end_by_their_keep_alive() -> None:
    played = with_models(replace(PINNED, max_slots=1), num_places=4, service_s=8.0)
    tell(played, unasked=frozenset({"model-1"}))
    played.play(10.0)
    for _ in range(3):
        played.ask("model-1")
    played.play(8.0)
    assert len(played.live("model-1")) == 3

    played.play(60.0)

    assert len(played.live("model-1")) == 2


def test_one_that_needs_the_room_of_several_leaves_those_that_are_pinned() -> None:
    """`large` needs the whole device. Both endpoints are idle, and one may go."""
    made = SmallCluster()
    made.add_node("node-1", memory_bytes=2 * MODEL_BYTES)
    made.add_model(replace(PINNED_ONE, max_endpoints=2, max_slots=1), summary())
    made.add_model(a_model("large"), summary(unit_sizes=(100, 500, 500, 10)))
    played = PlayedCluster(made)
    played.ask("model-1")
    played.ask("model-1")
    played.play(15.0)
    assert len(played.live("model-1")) == 2

    played.ask("large")
    played.play(30.0)

    assert not starts(played.decided)[2:] and played.live("model-1")


def test_whoever_waits_goes_before_what_nobody_waits_for() -> None:
    played = with_models(PINNED, a_model("asked"), num_places=1)
    tell(played, unasked=frozenset({"model-1"}))
    played.ask("asked")

    assert starts(played.play(0.5)) == [("asked", StartPurpose.REQUEST)]


def test_a_preload_starts_one_endpoint_that_stays_for_its_keep_alive() -> None:
    played = with_models(a_model("model-1", keep_alive_s=20.0))
    tell(played, **command(ModelCommandKind.PRELOAD))

    first = played.play(24.0)

    assert starts(first) == [("model-1", StartPurpose.PRELOAD)]
    assert [x.command_id for x in first if isinstance(x, d.EndCommand)] == ["preload-1"]
    assert played.live("model-1"), "5 s to start, and it is idle for less than 20 s"
    assert not played.snapshot.commands
    played.play(5.0)
    assert not played.live("model-1")


def test_a_preload_of_what_is_there_lets_its_keep_alive_run_anew() -> None:
    played = with_models(a_model("model-1", keep_alive_s=20.0))
    played.ask("model-1")
    played.play(20.0)
    assert played.live("model-1")

    tell(played, **command(ModelCommandKind.PRELOAD))
    decided = played.play(18.0)

    assert not starts(decided)
    assert [type(x) for x in decided] == [d.RenewKeepAlive, d.EndCommand]
    assert played.live("model-1"), "it was idle for 14 s before, and for 18 s now"
    assert played.snapshot.activities["model-1"].gaps == ModelActivity().gaps, "nobody asked"
    played.play(4.0)
    assert not played.live("model-1")


def test_a_preload_that_finds_no_room_is_given_up_at_its_deadline() -> None:
    pinned = a_model("model-0", min_endpoints=1)
    played = with_models(pinned, a_model("model-1"), num_places=1)
    tell(played, unasked=frozenset({"model-0"}))
    played.play(10.0)
    asked = command(ModelCommandKind.PRELOAD)
    tell(played, **{**asked, "unasked": frozenset({"model-0", "model-1"})})

    decided = played.play(120.0)

    assert not starts(decided)
    (ended,) = [x for x in decided if isinstance(x, d.EndCommand)]
    assert "deadline" in ended.why


def test_a_preload_takes_the_room_of_an_idle_endpoint_of_another_model() -> None:
    played = with_models(a_model("idle"), a_model("model-1"), num_places=1)
    played.ask("idle")
    played.play(20.0)

    tell(played, **command(ModelCommandKind.PRELOAD))
    decided = played.play(10.0)

    assert [x.model_id for x in decided if isinstance(x, d.DrainEndpoint)] == ["idle"]
    assert starts(decided) == [("model-1", StartPurpose.PRELOAD)]


def test_unloading_lets_busy_endpoints_answer_what_they_run() -> None:
    played = with_models(a_model("model-1", max_slots=1, max_endpoints=2), service_s=4.0)
    played.ask("model-1")
    played.ask("model-1")
    played.play(6.0)
    assert len(played.live("model-1")) == 2
    assert len(played.cluster.requests) == 2

    tell(played, **command(ModelCommandKind.UNLOAD))
    decided = played.play(0.5)

    assert len([x for x in decided if isinstance(x, d.DrainEndpoint)]) == 2
    assert not [x for x in decided if isinstance(x, d.EndRequest)]
    played.play(8.0)
    assert not played.cluster.requests and not list(played.snapshot.endpoints)
    assert not played.snapshot.commands


def test_unloading_ends_a_start_that_nobody_waits_for_and_leaves_one_that_somebody_does() -> None:
    for is_asked in (False, True):
        played = with_models(a_model("model-1"))
        tell(played, **command(ModelCommandKind.PRELOAD))
        played.play(1.0)
        if is_asked:
            played.ask("model-1")
        played.play(0.5)
        tell(played, **command(ModelCommandKind.UNLOAD))
        decided = played.play(0.5)

        stopped = [x for x in decided if isinstance(x, d.StopWorkers)]
        assert len(stopped) == (0 if is_asked else 1)


def both(first: ModelCommandKind, second: ModelCommandKind) -> dict[str, Any]:
    """Two commands of one model, in this order."""
    (one,), (other,) = (command(kind)["commands"]["model-1"] for kind in (first, second))
    return {"commands": {"model-1": (one, other)}, "unasked": frozenset({"model-1"})}


def test_one_that_is_unloaded_and_then_preloaded_starts_again() -> None:
    played = with_models(a_model("model-1"))
    played.ask("model-1")
    played.play(10.0)
    (old,) = played.live("model-1")

    tell(played, **both(ModelCommandKind.UNLOAD, ModelCommandKind.PRELOAD))
    decided = played.play(10.0)

    assert [x.endpoint_id for x in decided if isinstance(x, d.DrainEndpoint)] == [old.id]
    assert starts(decided) == [("model-1", StartPurpose.PRELOAD)]
    assert len(played.live("model-1")) == 1 and not played.snapshot.commands


def test_a_preload_that_waits_for_room_ends_with_a_later_unload() -> None:
    pinned = a_model("model-0", min_endpoints=1)
    played = with_models(pinned, a_model("model-1"), num_places=1)
    tell(played, unasked=frozenset({"model-0"}))
    played.play(10.0)

    asked = both(ModelCommandKind.PRELOAD, ModelCommandKind.UNLOAD)
    tell(played, **{**asked, "unasked": frozenset({"model-0", "model-1"})})
    decided = played.play(0.5)

    assert [x.command_id for x in decided if isinstance(x, d.EndCommand)] == [
        "preload-1",
        "unload-1",
    ]
    assert not played.snapshot.commands


def test_a_start_that_nobody_waited_for_is_hurried_once_somebody_does() -> None:
    played = with_models(a_model("model-1"))
    tell(played, **command(ModelCommandKind.PRELOAD))
    played.play(2.0)

    played.ask("model-1")
    decided = played.play(1.0)

    assert len([x for x in decided if isinstance(x, d.HurryStart)]) == 1
    assert not starts(decided), "it waits for the one that starts"
    (endpoint,) = played.live("model-1")
    assert endpoint.purpose is StartPurpose.REQUEST


def test_a_preload_or_a_pin_keeps_its_start_when_a_request_that_touched_it_goes() -> None:
    """The start takes 5 s; the request comes after 1 s and is cancelled a second later, when
    nothing of it is fetched."""
    preloaded, pinned = with_models(a_model("model-1")), with_models(PINNED_ONE)
    tell(preloaded, **command(ModelCommandKind.PRELOAD))
    tell(pinned, unasked=frozenset({"model-1"}))
    for played in (preloaded, pinned):
        played.play(1.0)
        played.ask("model-1")
        played.play(1.0)
        assert [e.purpose for e in played.live("model-1")] == [StartPurpose.REQUEST]
        played.cluster.requests.clear()
        played.play(10.0)

        assert not [x for x in played.decided if isinstance(x, d.StopWorkers)]
        assert len(starts(played.decided)) == 1
        assert [e.state for e in played.live("model-1")] == [EndpointState.STANDALONE]
    assert not preloaded.snapshot.commands


def test_a_preload_waits_until_what_starts_for_it_serves() -> None:
    played = with_models(a_model("model-1"))
    tell(played, **command(ModelCommandKind.PRELOAD))

    played.play(4.0)
    assert played.snapshot.commands and len(played.live("model-1")) == 1
    played.play(2.0)

    assert not played.snapshot.commands and len(starts(played.decided)) == 1


# No start is in time for it, so all of a start counts.
AUTO = a_model("model-1", is_keep_alive_auto=True, keep_alive_s=7.0, slo_ttft_s=0.0)
# It is asked every ten minutes, takes 5 s to start, and rests since 400 s.
REGULAR = ModelActivity(history_of([600.0] * 40), idle_since_s=NOW_S - 400.0, restart_s=5.0)


def regular(played: PlayedCluster) -> None:
    tell(played, activities={"model-1": REGULAR}, unasked=frozenset({"model-1"}))


def test_one_that_is_expected_is_ready_before_it_is_asked() -> None:
    played = with_models(AUTO)
    regular(played)

    # Requests come 512 s to 609 s after the last one: 112 s to 209 s from now.
    assert starts(played.play(106.0)) == []
    assert starts(played.play(7.0)) == [("model-1", StartPurpose.AHEAD)]
    played.play(87.0)
    played.ask("model-1")
    assert starts(played.play(3.0)) == []

    (wait_s,) = played.waits_s.values()
    assert wait_s <= 1.0, "it found an endpoint"
    gaps = played.snapshot.activities["model-1"].gaps
    assert gaps == history_of([600.0] * 41), "its gap was 600 s, although an endpoint was there"


def test_one_that_does_not_come_is_not_waited_for_and_not_started_again() -> None:
    played = with_models(AUTO)
    regular(played)

    decided = played.play(400.0)

    assert starts(decided) == [("model-1", StartPurpose.AHEAD)]
    (drained,) = [x for x in decided if isinstance(x, d.DrainEndpoint)]
    assert drained.why == "idle for its keep-alive"
    assert not played.live("model-1")


def test_one_that_is_expected_takes_no_room_of_an_idle_endpoint() -> None:
    played = with_models(AUTO, a_model("idle", keep_alive_s=1000.0), num_places=1)
    played.ask("idle")
    played.play(20.0)
    regular(played)

    decided = played.play(200.0)

    assert starts(decided) == []
    assert played.live("idle")


def test_what_a_model_claimed_for_a_request_is_free_once_it_is_only_expected() -> None:
    played = with_models(AUTO, a_model("idle", keep_alive_s=1000.0), num_places=1)
    played.ask("idle")
    played.play(20.0)
    regular(played)
    played.play(110.0)
    (begun,) = [x for x in played.decided if isinstance(x, d.StartEndpoint)]
    claimed = played.snapshot.queue.claim("model-1", begun.plan)
    tell(played, queue=claimed)

    played.step()

    assert not played.snapshot.queue.claims and played.snapshot.queue.order == ("model-1",)


def test_one_that_starts_for_nobody_gives_way_at_once() -> None:
    played = with_models(AUTO, a_model("asked"), num_places=1)
    regular(played)
    played.play(110.0)
    (ahead,) = played.live("model-1")
    assert ahead.state is EndpointState.STARTING

    played.ask("asked")
    decided = played.play(3.0)

    assert [x.endpoint_id for x in decided if isinstance(x, d.StopWorkers)] == [ahead.id]
    assert starts(decided) == [("asked", StartPurpose.REQUEST)]


def test_what_was_learnt_decides_on_keep_alive_and_not_the_figure() -> None:
    played = with_models(AUTO)
    talking = ModelActivity(history_of(([4.0] * 9 + [5000.0]) * 10), restart_s=5.0)
    tell(played, activities={"model-1": talking})
    played.ask("model-1")
    played.play(6.5)
    since_s = played.now_s

    while played.live("model-1"):
        played.step()
        assert played.now_s < since_s + 60.0

    # Idle for 32 s it is no longer worth its memory (test_keep_alive.py), and not for 7 s.
    assert 30.0 < played.now_s - since_s < 36.0
