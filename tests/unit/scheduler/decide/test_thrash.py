"""Two models that are asked in turn, on a device that holds one of them."""

from services.scheduler.policy import decisions as d
from services.scheduler.policy.scaling.giving_way import BOUND_S, min_warm_s
from tests.unit.scheduler.decide.played import PlayedCluster
from tests.unit.scheduler.snapshots import SmallCluster, a_model
from tests.unit.scheduler.values import summary

MODEL_BYTES = summary().weight_bytes + 100  # with its KV cache
START_S = 5.0


def one_device(*model_ids: str) -> PlayedCluster:
    """Weights stay in the host cache, so that bringing one back is expected to take 1.25 s."""
    made = SmallCluster()
    made.add_node("node-1", memory_bytes=MODEL_BYTES)
    for model_id in model_ids:
        made.add_model(a_model(model_id, max_slots=4), summary())
    return PlayedCluster(made, start_s=START_S)


def served(played: PlayedCluster) -> list[str]:
    """Models in the order in which they got an endpoint."""
    return [x.model_id for x in played.decided if isinstance(x, d.StartEndpoint)]


def test_requests_of_two_models_that_come_in_turn_are_served_in_groups() -> None:
    played = one_device("a", "b")
    for _ in range(10):
        played.ask("a")
        played.play(2.0)
        played.ask("b")
        played.play(2.0)
    played.play(60.0)

    # Ten of each, ABABAB..., would be twenty starts of 5 s if each was served by itself.
    assert len(played.waits_s) == 20
    starts = served(played)
    assert starts == ["a", "b"] * (len(starts) // 2) + ["a"] * (len(starts) % 2)
    assert len(starts) <= 6


def test_nobody_waits_for_longer_than_the_bound_and_a_turn() -> None:
    """The first model is asked every half second, so that it is never idle."""
    played = one_device("busy", "patient")
    played.ask("busy")
    played.play(10.0)
    played.ask("patient")
    for _ in range(400):
        played.ask("busy")
        played.step()

    waits = {id_: wait_s for id_, wait_s in played.waits_s.items() if id_.startswith("of-patient")}
    assert len(waits) == 1
    (wait_s,) = waits.values()
    # The bound; what still runs, a start, and the steps in which these are noticed.
    assert BOUND_S <= wait_s <= BOUND_S + played.service_s + START_S + 8 * played.step_s
    # And the first one comes back for those that have gathered meanwhile.
    assert served(played)[:3] == ["busy", "patient", "busy"]


def test_with_more_models_than_the_bound_has_turns_each_still_gets_its_turn() -> None:
    ids = [f"model-{i}" for i in range(8)]
    played = one_device(*ids)
    for _ in range(500):
        for model_id in ids:
            if played.snapshot.requests.count("model", model_id) < 3:
                played.ask(model_id)
        played.step()

    starts = served(played)
    assert set(starts) == set(ids), "everybody was served"
    moments = [x for x in played.decided if isinstance(x, d.StartEndpoint | d.DrainEndpoint)]
    assert len(moments) > 10
    # 250 s have room for 250 / (5 to start + at least 1.25 up) turns at most; far fewer are taken.
    assert len(starts) <= 250 / (START_S + min_warm_s(1.25))


def test_a_pinned_endpoint_gives_way_to_nobody() -> None:
    played = one_device("pinned", "other")
    pinned = a_model("pinned", max_slots=4, min_endpoints=1)
    played.cluster.add_model(pinned, summary())
    played.ask("pinned")
    played.play(10.0)
    played.ask("other")
    played.play(2 * BOUND_S)

    assert served(played) == ["pinned"]
    assert not [x for x in played.decided if isinstance(x, d.DrainEndpoint)]
