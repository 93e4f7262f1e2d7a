"""Who may come, and who has to go for them."""

import logging
import resource
from collections.abc import Iterator

import pytest

from libs.common.testing.bus import FakeClock
from services.gateway.http.connection_limiter import Crowd
from services.gateway.http.descriptors import connections_within_limit, raise_limit


class Guest:
    def __init__(self) -> None:
        self.is_sent_away = False

    def hang_up(self) -> None:
        self.is_sent_away = True


def test_a_full_house_sends_away_who_has_been_idle_for_longest() -> None:
    crowd, guests = Crowd(3, FakeClock()), [Guest() for _ in range(5)]
    for guest in guests[:3]:
        assert crowd.admit(guest)
    crowd.busy(guests[0])
    crowd.idle(guests[0])  # which makes it the latest

    assert crowd.admit(guests[3]) and crowd.admit(guests[4])

    assert [guest.is_sent_away for guest in guests] == [False, True, True, False, False]
    assert crowd.num_present == 3


def test_nobody_with_a_request_is_sent_away() -> None:
    crowd, guests = Crowd(2, FakeClock()), [Guest() for _ in range(3)]
    for guest in guests[:2]:
        crowd.admit(guest)
        crowd.busy(guest)

    assert not crowd.admit(guests[2])
    crowd.left(guests[0])
    assert crowd.admit(guests[2])


def test_one_who_left_is_not_idle_when_its_answer_ends() -> None:
    crowd, guest = Crowd(1, FakeClock()), Guest()
    crowd.admit(guest)
    crowd.busy(guest)
    crowd.left(guest)

    crowd.idle(guest)

    assert crowd.admit(Guest()) and not guest.is_sent_away


def test_a_flood_is_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    crowd = Crowd(1, clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            crowd.admit(Guest())
        clock.advance(61)
        crowd.admit(Guest())

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
    raise_limit()

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == min(hard, 2**20) and hard == descriptor_limit
