"""A long computation stops neither the event loop nor who must be shown that somebody lives."""

import threading

import pytest

from services.scheduler.rounds.computing import compute_aside

MAX_WAIT_S = 20.0


async def test_somebody_is_kept_alive_while_it_computes() -> None:
    calls: list[int] = []
    enough = threading.Event()

    async def keep_alive() -> None:
        calls.append(len(calls))
        if len(calls) == 3:
            enough.set()

    assert await compute_aside(lambda: enough.wait(MAX_WAIT_S), keep_alive, interval_s=0.001)

    assert len(calls) >= 3


async def test_what_it_raises_is_raised() -> None:
    async def keep_alive() -> None:
        return None

    def fail() -> int:
        raise ValueError("it makes no sense")

    with pytest.raises(ValueError, match="it makes no sense"):
        await compute_aside(fail, keep_alive)
