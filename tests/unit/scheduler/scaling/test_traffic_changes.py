import pytest

from services.scheduler.policy.scaling.traffic_changes import with_traffic, without_old_traffic
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.values import NOW_S, endpoint, model, open_request, snapshot

SEVERAL = model(max_endpoints=3)
SERVING = endpoint(ready_since_s=NOW_S - 50.0)


def rows(*requests: str, now_s: float = NOW_S, arrived_at_s: float = NOW_S - 4.0) -> Snapshot:
    return snapshot(
        now_s=now_s,
        models=[SEVERAL],
        endpoints=[SERVING],
        requests=[
            open_request(id=id_, endpoint_id="endpoint-1", arrived_at_s=arrived_at_s)
            for id_ in requests
        ],
    )


def test_requests_that_are_new_have_arrived_and_those_that_are_gone_were_served() -> None:
    first = with_traffic(rows(), rows("one", "two"))
    assert first.traffic["model-1"].arrivals.rate_per_s(NOW_S) == pytest.approx(0.2)

    later = rows("two", now_s=NOW_S + 1).changed(traffic=first.traffic)
    then = with_traffic(first, later)

    # It came 4 s before the first look, and was gone 1 s after it.
    assert then.traffic["model-1"].services.values == (5.0,)
    assert then.traffic["model-1"].arrivals.rate_per_s(NOW_S) == pytest.approx(0.2)


def test_requests_that_are_there_when_all_rows_are_read_have_not_arrived_again() -> None:
    known = with_traffic(rows(), rows("one", "two"))
    read = rows().remembering(known).changed(knows_requests=False)

    again = with_traffic(read, rows("one", "two").changed(traffic=read.traffic))
    then = with_traffic(again, rows("one", "two", "three").changed(traffic=again.traffic))

    # Two and then one more, within the ten seconds of the window.
    assert again.traffic["model-1"].arrivals.rate_per_s(NOW_S) == pytest.approx(0.2)
    assert then.traffic["model-1"].arrivals.rate_per_s(NOW_S) == pytest.approx(0.3)


def test_what_waited_for_a_start_is_counted_from_when_that_served() -> None:
    before = rows("one", arrived_at_s=NOW_S - 300.0)

    then = with_traffic(before, rows().changed(now_s=NOW_S + 1))

    assert then.traffic["model-1"].services.values == (51.0,)


def test_of_what_was_never_given_to_an_endpoint_nothing_is_learnt_of_service() -> None:
    queued = snapshot(models=[SEVERAL], requests=[open_request()])

    then = with_traffic(queued, snapshot(models=[SEVERAL]))

    assert then.traffic["model-1"].services.values == ()


def test_of_models_that_have_one_endpoint_at_most_nothing_is_kept() -> None:
    one = snapshot(models=[model()], requests=[open_request()])

    assert not with_traffic(snapshot(models=[model()]), one).traffic


def test_what_nobody_asks_any_more_is_forgotten() -> None:
    asked = with_traffic(rows(), rows("one"))

    assert without_old_traffic(asked.changed(now_s=NOW_S + 60)).traffic, "it is still served"
    gone = rows(now_s=NOW_S + 60).changed(traffic=asked.traffic)
    assert not without_old_traffic(gone).traffic
