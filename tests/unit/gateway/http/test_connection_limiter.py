"""Which connections are admitted, and which idle ones are closed for them."""

import logging
import resource
from collections.abc import Iterator

import pytest

from libs.common.testing.bus import FakeClock
from services.gateway.http.connection_limiter import ConnectionLimiter
from services.gateway.http.descriptors import connections_within_limit, raise_descriptor_limit


class FakeConnection:
    def __init__(self) -> None:
        self.is_closed = False

    def close_now(self) -> None:
        self.is_closed = True


def test_at_the_limit_the_connection_idle_for_longest_is_closed() -> None:
    limiter, connections = ConnectionLimiter(3, FakeClock()), [FakeConnection() for _ in range(5)]
    for connection in connections[:3]:
        assert limiter.admit(connection)
    limiter.mark_busy(connections[0])
    limiter.mark_idle(connections[0])  # which makes it the latest

    assert limiter.admit(connections[3]) and limiter.admit(connections[4])

    assert [connection.is_closed for connection in connections] == [False, True, True, False, False]
    assert limiter.num_open == 3


def test_no_connection_with_a_request_is_closed() -> None:
    limiter, connections = ConnectionLimiter(2, FakeClock()), [FakeConnection() for _ in range(3)]
    for connection in connections[:2]:
        limiter.admit(connection)
        limiter.mark_busy(connection)

    assert not limiter.admit(connections[2])
    limiter.remove(connections[0])
    assert limiter.admit(connections[2])


def test_a_removed_connection_is_not_idle_when_its_answer_ends() -> None:
    limiter, connection = ConnectionLimiter(1, FakeClock()), FakeConnection()
    limiter.admit(connection)
    limiter.mark_busy(connection)
    limiter.remove(connection)

    limiter.mark_idle(connection)

    assert limiter.admit(FakeConnection()) and not connection.is_closed


def test_a_flood_is_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    limiter = ConnectionLimiter(1, clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            limiter.admit(FakeConnection())
        clock.advance(61)
        limiter.admit(FakeConnection())

    assert len(caplog.records) == 2


@pytest.fixture
def descriptor_limit() -> Iterator[int]:
    """A soft limit of 256 for the test; gives the hard one."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_connections_leave_descriptors_for_everything_else(descriptor_limit: int) -> None:
    assert connections_within_limit(8192) == 128
    assert connections_within_limit(100) == 100


def test_the_limit_is_raised_to_what_the_system_allows(descriptor_limit: int) -> None:
    raise_descriptor_limit()

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == min(hard, 2**20) and hard == descriptor_limit
