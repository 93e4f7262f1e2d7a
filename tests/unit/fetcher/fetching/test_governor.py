import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from libs.common.network.nic_rate_limiter import NicRateLimiter
from libs.common.states import FetchClass
from services.fetcher.errors import FetchCancelled
from services.fetcher.fetching.governor import Flow, NicGovernor, OwnBucket
from tests.support.reference import Bound

RATE = 20_000_000


def pump(governor: NicGovernor, flow: Flow, until_s: float) -> int:
    """Move as much as the governor allows; the number of bytes."""
    moved = 0
    while time.monotonic() < until_s:
        wanted = governor.grant_bytes
        governor.acquire(flow, wanted)
        moved += wanted
    return moved


def share(governor: NicGovernor, flows: list[Flow], seconds: float) -> list[int]:
    until_s = time.monotonic() + seconds
    with ThreadPoolExecutor(len(flows)) as pool:
        return list(pool.map(lambda flow: pump(governor, flow, until_s), flows))


@pytest.mark.parametrize("num_threads", [1, 8])
def test_the_rate_is_kept_however_many_threads_ask(num_threads: int) -> None:
    governor = NicGovernor(RATE)
    flow = governor.open_flow(FetchClass.INTERACTIVE)

    started_s = time.monotonic()
    moved = sum(share(governor, [flow] * num_threads, 0.5))
    took_s = time.monotonic() - started_s  # every thread waits once more at the end

    # A busy machine may move less; more than the rate and the burst would be wrong.
    assert 0.5 < moved / (RATE * took_s) < 1.25


def test_interactive_flows_share_fairly() -> None:
    governor = NicGovernor(RATE)
    flows = [governor.open_flow(FetchClass.INTERACTIVE) for _ in range(2)]

    # One of them asks from three threads, which must not give it three shares.
    first, *rest = share(governor, [flows[0], flows[1], flows[1], flows[1]], 0.5)

    assert 0.7 < first / sum(rest) < 1.4


def test_background_gets_nothing_while_interactive_wants_everything() -> None:
    governor = NicGovernor(RATE)
    background = governor.open_flow(FetchClass.BACKGROUND)
    interactive = governor.open_flow(FetchClass.INTERACTIVE)

    moved = share(governor, [background, interactive, interactive, interactive], 0.5)

    assert moved[0] < 0.2 * sum(moved)  # one grant before the others ask and one after


def test_background_gets_everything_when_it_is_alone() -> None:
    governor = NicGovernor(RATE)

    moved = share(governor, [governor.open_flow(FetchClass.BACKGROUND)], 0.5)

    assert moved[0] > 0.4 * RATE * 0.5  # in few grants, of which a busy machine may miss some


def stamp(governor: NicGovernor, flow: Flow, moments: list[float]) -> None:
    """Note when each grant was given, until the flow is closed."""
    with suppress(FetchCancelled):
        while True:
            governor.acquire(flow, governor.grant_bytes)
            moments.append(time.monotonic())
            time.sleep(0.001)  # as long as bytes take


def wait_for_one_after(moment_s: float, moments: list[float]) -> None:
    deadline_s = time.monotonic() + 10
    while not moments or moments[-1] <= moment_s:
        assert time.monotonic() < deadline_s, "background stands still"
        time.sleep(0.001)


@pytest.mark.parametrize("rate", [RATE, 0], ids=["with a cap", "without"])
def test_background_yields_within_100_ms_and_gets_the_link_back(rate: int) -> None:
    governor, moments = NicGovernor(rate), list[float]()
    background = governor.open_flow(FetchClass.BACKGROUND)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(stamp, governor, background, moments)
        wait_for_one_after(0, moments)
        interactive, started_s = governor.open_flow(FetchClass.INTERACTIVE), time.monotonic()
        share(governor, [interactive] * 3, 0.4)
        ended_s = time.monotonic()
        governor.close_flow(interactive)
        wait_for_one_after(ended_s, moments)
        governor.close_flow(background)

    # The threads of a busy machine may leave the link to background once.
    assert sum(started_s + 0.1 < moment < ended_s - 0.01 for moment in moments) <= 1


def test_the_first_chunk_goes_first() -> None:
    governor, order = NicGovernor(1_000_000), list[int]()
    flow = governor.open_flow(FetchClass.INTERACTIVE)
    governor.acquire(flow, 500_000)  # in debt: whoever asks now waits

    def ask(chunk: int) -> None:
        governor.acquire(flow, 50_000, order=chunk)
        order.append(chunk)

    threads = [threading.Thread(target=ask, args=(chunk,)) for chunk in (3, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert order[0] == 1


def test_a_flow_that_joins_late_starts_level_with_the_others() -> None:
    governor = NicGovernor(10**12)
    early = governor.open_flow(FetchClass.INTERACTIVE)
    governor.acquire(early, 1000)

    assert governor.open_flow(FetchClass.INTERACTIVE).granted_bytes == 1000


def test_what_was_not_moved_is_given_back() -> None:
    governor = NicGovernor(1000, monotonic_s=lambda: 0.0)
    flow = governor.open_flow(FetchClass.INTERACTIVE)
    governor.refund(flow, 500)

    governor.acquire(flow, 500)

    assert flow.granted_bytes == 0


def ask_for_ever(governor: NicGovernor, flow: Flow) -> None:
    while True:
        governor.acquire(flow, 100)


@pytest.mark.parametrize("rate", [0, 1000])
def test_closing_a_flow_ends_its_waiting(rate: int) -> None:
    governor = NicGovernor(rate)
    flow = governor.open_flow(FetchClass.INTERACTIVE)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask_for_ever, governor, flow)
        governor.close_flow(flow)

        with pytest.raises(FetchCancelled):
            asking.result(timeout=10)


def test_a_fetch_waits_for_what_the_nodes_workers_sent(tmp_path: Path) -> None:
    limiter = NicRateLimiter.create(tmp_path / "nic.ledger", RATE)
    governor = NicGovernor(RATE, bucket=limiter)
    flow = governor.open_flow(FetchClass.INTERACTIVE)
    NicRateLimiter.attach(tmp_path / "nic.ledger").take(RATE // 5, credit_s=1.0)
    started_s = time.monotonic()

    governor.acquire(flow, 1)

    assert time.monotonic() - started_s > 0.15


def test_grants_are_larger_while_one_flow_has_the_card_alone(tmp_path: Path) -> None:
    now_s = 100.0
    limiter = NicRateLimiter.create(tmp_path / "nic.ledger", RATE, monotonic_s=lambda: now_s)
    governor = NicGovernor(RATE, bucket=limiter, monotonic_s=lambda: now_s)
    flow = governor.open_flow(FetchClass.BACKGROUND)
    alone_bytes = governor.grant_bytes
    other = governor.open_flow(FetchClass.INTERACTIVE)
    shared_bytes = governor.grant_bytes
    governor.close_flow(other)

    limiter.take(RATE // 2, credit_s=1.0)  # as a worker does
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(governor.acquire, flow, 1)
        eventually_in_thread(lambda: governor.grant_bytes == shared_bytes)
        now_s += 2.0
        governor.set_class(flow, FetchClass.INTERACTIVE)  # wakes it: the clock is not a real one
        asking.result(timeout=10)

    assert shared_bytes < alone_bytes == governor.grant_bytes
    assert alone_bytes / RATE < 0.1


def eventually_in_thread(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


class CountingBucket(OwnBucket):
    num_asked = 0

    def take(self, num_bytes: int) -> float:
        self.num_asked += 1
        return super().take(num_bytes)


def test_who_comes_back_in_time_goes_on_without_asking_for_the_others() -> None:
    bucket = CountingBucket(RATE, time.monotonic)
    governor = NicGovernor(RATE, bucket=bucket)
    flow = governor.open_flow(FetchClass.INTERACTIVE)
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(governor.acquire, flow, 1, order=order) for order in (1, 2, 3)]
        eventually_in_thread(lambda: bucket.num_asked > 0)
        num_before = bucket.num_asked
        for _ in range(10):
            governor.acquire(flow, governor.grant_bytes, order=0)
        num_asked = bucket.num_asked - num_before
        for other in others:
            other.result(timeout=10)

    assert num_asked < 20


def test_whose_bytes_do_not_come_holds_nobody_up() -> None:
    governor = NicGovernor(1_000_000)
    flow = governor.open_flow(FetchClass.INTERACTIVE)
    bound = Bound(0.8, multiple=5)
    governor.acquire(flow, 100_000)
    started_s = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(governor.acquire, flow, 50_000, order=order) for order in (1, 2, 3)]
        for one in asking:
            one.result(timeout=10)  # each takes its grant and never asks again

    # 0.2 s by the rate; who has to look by itself, without being woken, would take seconds.
    bound.check(time.monotonic() - started_s, "three grants")
