from libs.common.states import FetchState, WorkerState
from services.scheduler.policy.start_deadline import StartWatch
from services.scheduler.policy.unconfirmed_losses import Doubts
from tests.unit.scheduler.values import fetch, observed


def test_a_reported_loss_holds_until_a_heartbeat_that_was_sent_after_it() -> None:
    doubts = Doubts()
    doubts.report("endpoint-1", 10.0)

    doubts.seen_alive("endpoint-1", 10.2)
    assert doubts.is_doubted("endpoint-1")

    doubts.seen_alive("endpoint-1", 10.6)
    assert not doubts.is_doubted("endpoint-1")


def test_repeated_reports_do_not_prolong_the_doubt() -> None:
    doubts = Doubts()
    doubts.report("endpoint-1", 10.0)
    doubts.report("endpoint-1", 10.5)

    doubts.seen_alive("endpoint-1", 10.6)

    assert not doubts.is_doubted("endpoint-1")


def test_a_start_is_stuck_only_when_nothing_has_moved_for_the_timeout() -> None:
    watch = StartWatch(timeout_s=10.0)
    launching = (observed(WorkerState.LAUNCHING),)

    def is_stuck(bytes_done: int, now_s: float) -> bool:
        fetching = (fetch(FetchState.FETCHING, bytes_done=bytes_done, bytes_total=100),)
        return watch.is_stuck("endpoint-1", launching, fetching, now_s)

    assert not is_stuck(1, 0.0)
    assert not is_stuck(1, 10.0)
    assert not is_stuck(2, 11.0)  # a byte arrived
    assert not is_stuck(2, 21.0)
    assert is_stuck(2, 21.1)


def test_a_start_whose_engine_computes_slowly_with_all_bytes_there_still_moves() -> None:
    watch = StartWatch(timeout_s=10.0)
    fetched = (fetch(FetchState.COMPLETE, bytes_done=100, bytes_total=100),)

    def is_stuck(progress: int, now_s: float) -> bool:
        loading = (observed(WorkerState.REGISTERED, progress=progress),)
        return watch.is_stuck("endpoint-1", loading, fetched, now_s)

    assert not is_stuck(3, 0.0)
    assert not is_stuck(4, 9.0)  # another layer of its first tokens
    assert not is_stuck(5, 18.0)
    assert is_stuck(5, 28.1)


def test_an_idle_engine_that_turns_does_not_move_a_start() -> None:
    watch = StartWatch(timeout_s=10.0)

    def is_stuck(progress: int, now_s: float) -> bool:
        ready = observed(WorkerState.READY, progress=progress)
        return watch.is_stuck("endpoint-1", (ready, observed(WorkerState.LAUNCHING)), (), now_s)

    assert not is_stuck(1, 0.0)
    assert not is_stuck(10, 9.0)
    assert is_stuck(11, 10.1)
