"""What is kept while a listener is busy, and when it says that it came."""

import pytest

from libs.common.bus.message_hold import MessageHold
from libs.common.testing.bus import FakeClock


async def test_a_kept_message_has_come_when_it_arrived_and_newer_ones_are_not_overtaken() -> None:
    clock, handled = FakeClock(), list[tuple[str, float]]()
    hold = MessageHold(clock)

    def message(text: str) -> bool:
        async def handle() -> None:
            handled.append((text, hold.arrived_s()))

        return hold.keeps(text.split()[0], handle)

    with hold.closed():
        arrived_s = clock.monotonic_s()
        assert message("a first") and message("a second")
        clock.advance(2.0)
    assert message("a third"), "while an older one waits"
    assert not message("b first"), "it may be handled at once"

    await hold.release()

    assert handled == [("a third", arrived_s + 2.0)]
    assert hold.arrived_s() == clock.monotonic_s()
    assert not message("a fourth")


async def test_a_message_whose_handler_fails_leaves_the_others_to_be_released() -> None:
    clock, handled = FakeClock(), list[str]()
    hold = MessageHold(clock)

    async def fail() -> None:
        raise ValueError

    async def note() -> None:
        handled.append("b")

    with hold.closed():
        hold.keeps("a", fail)
        hold.keeps("b", note)

    with pytest.raises(ValueError):
        await hold.release()
    await hold.release()

    assert handled == ["b"] and hold.num_kept == 0
