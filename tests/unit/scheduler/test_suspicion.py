from services.scheduler.diagnosis import Failing, Gone, Unknown
from services.scheduler.suspicion import root_failure

ECHO = Gone("worker w-0 on node a: stage 0 lost its neighbour stage 2: heartbeat")
ROOT = Gone("worker w-2 on node c: killed by signal 9")


def test_the_process_that_ended_is_named_before_the_neighbours_that_noticed() -> None:
    assert root_failure((ECHO, Unknown(), ROOT)) is ROOT
    assert root_failure((ECHO, Failing("the fetch failed"))) == Failing("the fetch failed")


def test_a_lost_neighbour_alone_is_cause_enough() -> None:
    assert root_failure((ECHO, Unknown())) is ECHO


def test_a_worker_that_ended_as_asked_is_no_failure() -> None:
    assert root_failure((Gone(None), Unknown())) is None
