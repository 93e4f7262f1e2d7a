"""What socket events mean for the two links."""

from services.worker.runtime.dataplane.neighbour_state import InletState, OutletState


def test_the_previous_stage_is_lost_when_its_own_connection_ends() -> None:
    link = InletState()
    link.accepted(5)
    link.hello(5)
    assert (link.is_linked, link.is_lost) == (True, False)

    link.disconnected(5)

    assert link.is_lost


def test_strangers_come_and_go_without_a_loss() -> None:
    link = InletState()
    for descriptor in (5, 6, 7):
        link.accepted(descriptor)
    link.disconnected(6)
    link.hello(5)

    link.disconnected(7)

    assert not link.is_lost


def test_a_hello_of_a_connection_that_has_ended_is_a_loss() -> None:
    link = InletState()
    link.accepted(5)
    link.disconnected(5)

    link.hello(5)

    assert link.is_lost


def test_the_next_stage_is_lost_only_after_it_was_there() -> None:
    link = OutletState()
    link.disconnected()
    assert not link.is_lost

    link.connected()
    link.disconnected()

    assert link.is_lost
