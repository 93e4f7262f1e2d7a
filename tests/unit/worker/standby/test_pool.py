"""The pool is filled whatever goes wrong meanwhile, and orphans are reaped beside that."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from services.worker.agent.standby import pool as pools
from services.worker.agent.standby.pool import StandbyPool
from tests.support.waiting import eventually
from tests.unit.worker.standby.zygotes import Fork, ZygoteDouble, break_down, fail, hang


class Refusing:
    """Adopting orphans, refused at first."""

    def __init__(self, num_refusals: int) -> None:
        self._num_refusals = num_refusals

    def __call__(self) -> None:
        if self._num_refusals:
            self._num_refusals -= 1
            raise PermissionError(1, "prctl: Operation not permitted")


class CountingReaper:
    def __init__(self) -> None:
        self.num_looks = 0

    def look(self) -> None:
        self.num_looks += 1
        if self.num_looks % 2:
            raise RuntimeError("a bug")


@pytest.fixture(autouse=True)
def reaper(monkeypatch: pytest.MonkeyPatch) -> CountingReaper:
    reaper = CountingReaper()
    monkeypatch.setattr(pools, "OrphanReaper", lambda: reaper)
    monkeypatch.setattr(pools, "adopt_orphans", Refusing(0))
    for name in ("INTERVAL_S", "FIRST_PAUSE_S"):
        monkeypatch.setattr(pools, name, 0.001)
    return reaper


@asynccontextmanager
async def filling(
    zygote: ZygoteDouble,
    monkeypatch: pytest.MonkeyPatch,
    is_serving: Callable[[], bool] = lambda: False,
    is_quiet: Callable[[], bool] = lambda: True,
) -> AsyncIterator[StandbyPool]:
    monkeypatch.setattr(pools, "Zygote", zygote.start)
    pool = StandbyPool(1, {})
    task = asyncio.create_task(pool.keep_full(is_quiet, is_serving))
    try:
        yield pool
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await pool.close()
        zygote.close()


@pytest.mark.parametrize(
    ("num_refusals", "forks"),
    [
        pytest.param(2, [], id="adopting orphans is refused"),
        pytest.param(0, [fail, fail], id="forks fail"),
        pytest.param(0, [break_down, break_down], id="a bug"),
    ],
)
async def test_the_pool_is_filled_after_any_failure(
    monkeypatch: pytest.MonkeyPatch, num_refusals: int, forks: list[Fork]
) -> None:
    monkeypatch.setattr(pools, "adopt_orphans", Refusing(num_refusals))
    async with filling(ZygoteDouble(*forks), monkeypatch) as pool:
        await eventually(lambda: pool.num_ready == 1, what="a standby")


@pytest.mark.parametrize(
    ("fork", "num_zygotes"),
    [
        pytest.param(fail, 1, id="a fork that failed"),
        pytest.param(hang, 2, id="no answer"),
    ],
)
async def test_only_a_zygote_that_does_not_answer_is_ended(
    monkeypatch: pytest.MonkeyPatch, fork: Fork, num_zygotes: int
) -> None:
    monkeypatch.setattr(pools, "FORK_TIMEOUT_S", 0.05)
    zygote = ZygoteDouble(fork)
    async with filling(zygote, monkeypatch) as pool:
        await eventually(lambda: pool.num_ready == 1, what="a standby")
        assert zygote.num_started == num_zygotes


async def test_orphans_are_reaped_while_a_zygote_says_nothing(
    monkeypatch: pytest.MonkeyPatch, reaper: CountingReaper
) -> None:
    zygote = ZygoteDouble(hang)
    async with filling(zygote, monkeypatch):
        await eventually(lambda: zygote.num_forks == 1, what="a question")
        num_before = reaper.num_looks
        await eventually(lambda: reaper.num_looks > num_before + 2, what="some looks")


async def test_closing_the_pool_takes_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Immortal(ZygoteDouble):
        async def end(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(pools, "CLOSE_TIMEOUT_S", 0.01)
    async with filling(Immortal(), monkeypatch) as pool:
        await eventually(lambda: pool.num_ready == 1, what="a standby")
        await asyncio.wait_for(pool.close(), 5)


class Requests:
    """Whether there are any, and how often that was asked."""

    def __init__(self) -> None:
        self.are_running, self.num_looks = True, 0

    def __call__(self) -> bool:
        self.num_looks += 1
        return self.are_running


async def test_a_zygote_is_started_when_no_request_runs_and_forks_beside_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pools, "MAX_DEFERRALS", 10**9)
    zygote, requests = ZygoteDouble(), Requests()
    async with filling(zygote, monkeypatch, requests) as pool:
        await eventually(lambda: requests.num_looks > 3, what="some looks")
        assert zygote.num_started == 0

        requests.are_running = False
        await eventually(lambda: pool.num_ready == 1, what="a standby")
        requests.are_running = True
        taken = pool.take()
        assert taken is not None
        pool.discard(taken)
        await eventually(lambda: pool.num_ready == 1, what="another standby")


async def test_requests_without_end_keep_no_zygote_from_being_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pools, "MAX_DEFERRALS", 3)
    requests = Requests()
    async with filling(ZygoteDouble(), monkeypatch, requests) as pool:
        await eventually(lambda: pool.num_ready == 1, what="a standby")
        assert requests.num_looks > 3


async def test_a_node_that_is_never_quiet_gets_a_standby_when_it_has_none_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zygote, is_quiet = ZygoteDouble(), True
    async with filling(zygote, monkeypatch, is_quiet=lambda: is_quiet) as pool:
        await eventually(lambda: pool.num_ready == 1, what="a standby")
        is_quiet = False
        taken = pool.take()
        assert taken is not None
        pool.discard(taken)
        await eventually(lambda: pool.num_ready == 1, what="another standby")


async def test_no_zygote_is_started_while_workers_start(
    monkeypatch: pytest.MonkeyPatch, reaper: CountingReaper
) -> None:
    zygote = ZygoteDouble()
    async with filling(zygote, monkeypatch, is_quiet=lambda: False):
        await eventually(lambda: reaper.num_looks > 3 * pools.MAX_EMPTY_INTERVALS, what="looks")
        assert zygote.num_started == 0
