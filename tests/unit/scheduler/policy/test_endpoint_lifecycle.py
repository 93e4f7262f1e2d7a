import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.causes import Cause, CauseKind
from libs.common.states import EndpointState
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.endpoint_lifecycle import Action, Situation, due_action
from tests.unit.scheduler.values import endpoint, worker

DIED = Cause(CauseKind.PROCESS_EXITED)
STARTING = endpoint(state=EndpointState.STARTING, has_been_ready=False)
SERVING = endpoint()
DRAINING = endpoint(state=EndpointState.DRAINING)
RELEASED = endpoint(state=EndpointState.DRAINING, workers=(worker(is_desired=False),))
DEAD = endpoint(state=EndpointState.FAILED, workers=(worker(is_desired=False),))


@pytest.mark.parametrize(
    ("endpoint_", "situation", "expected", "reason"),
    [
        (STARTING, Situation(), None, "it is under way"),
        (STARTING, Situation(are_all_ready=True), Action.SERVE, "every worker is ready"),
        (STARTING, Situation(failure=DIED), Action.FAIL, "a worker ended"),
        (STARTING, Situation(is_stuck=True), Action.FAIL, "nothing moves"),
        (STARTING, Situation(is_unwanted=True), Action.RELEASE, "nobody waits"),
        (
            STARTING,
            Situation(is_unwanted=True, are_all_ready=True),
            Action.SERVE,
            "it is done, keep-alive decides now",
        ),
        (
            STARTING,
            Situation(has_stale_context=True),
            Action.RELEASE,
            "another one has to start",
        ),
        (
            SERVING,
            Situation(has_stale_context=True),
            Action.DRAIN,
            "another takes new requests",
        ),
        (SERVING, Situation(), None, "it serves"),
        (SERVING, Situation(is_idle_for_long=True), Action.DRAIN, "keep-alive is over"),
        (SERVING, Situation(is_unwanted=True), Action.DRAIN, "the model is being deleted"),
        (
            SERVING,
            Situation(failure=DIED, is_idle_for_long=True),
            Action.FAIL,
            "dead is dead",
        ),
        (SERVING, Situation(is_stuck=True), None, "only starts can be stuck"),
        (DRAINING, Situation(), None, "requests are still running"),
        (DRAINING, Situation(is_drained=True), Action.RELEASE, "nothing runs any more"),
        (DRAINING, Situation(failure=DIED), Action.FAIL, "it died while draining"),
        (RELEASED, Situation(is_drained=True), None, "released once is enough"),
        (RELEASED, Situation(are_all_gone=True), Action.STOP, "every worker is gone"),
        (DEAD, Situation(failure=DIED, are_all_gone=True), None, "it ended already"),
    ],
)
def test_the_next_move(
    endpoint_: Endpoint, situation: Situation, expected: Action | None, reason: str
) -> None:
    due = due_action(endpoint_, situation)

    assert (due.action if due else None) == expected, reason


@given(
    st.sampled_from(list(EndpointState)),
    st.booleans(),
    st.builds(
        Situation,
        failure=st.none() | st.just(DIED),
        are_all_ready=st.booleans(),
        are_all_gone=st.booleans(),
        is_stuck=st.booleans(),
        has_stale_context=st.booleans(),
        is_unwanted=st.booleans(),
        is_idle_for_long=st.booleans(),
        is_drained=st.booleans(),
    ),
)
def test_a_finished_endpoint_never_moves_and_a_failure_always_has_its_cause(
    state: EndpointState, is_desired: bool, situation: Situation
) -> None:
    due = due_action(endpoint(state=state, workers=(worker(is_desired=is_desired),)), situation)

    if state.is_finished:
        assert due is None
    if due is not None and due.action is Action.FAIL:
        assert due.cause
    if due is not None and due.action is Action.STOP:
        assert state is EndpointState.DRAINING and situation.are_all_gone
