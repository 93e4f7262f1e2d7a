"""Reported losses until a heartbeat says otherwise, and starts that stand still."""

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import FetchObserved, WorkerObserved
from libs.common.causes import CauseKind
from libs.common.startmode import StartMode
from libs.common.states import EndpointState, FetchState, StartPurpose, WorkerState
from services.scheduler.policy.changes import SWEEP
from services.scheduler.policy.decide import decide_round
from services.scheduler.policy.decisions import FailEndpoint
from services.scheduler.policy.failures.start_stall import StartActivity
from services.scheduler.policy.failures.unconfirmed_losses import unconfirmed
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.observed import Observed
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.tables.snapshot_tables import endpoint_table
from services.scheduler.rounds.change_log import ChangeLog
from services.scheduler.rounds.reader import SnapshotReader
from tests.unit.scheduler.values import (
    agent_heartbeat,
    endpoint,
    fetch,
    heard_now,
    observed,
    open_request,
    snapshot,
    worker,
)

SERVING = endpoint_table({"endpoint-1": endpoint()})


def seen_alive(at_s: float) -> Observed:
    return heard_now([agent_heartbeat("boot-a", 1, observed(WorkerState.READY))], now_s=at_s)


def test_a_reported_loss_holds_until_a_heartbeat_that_was_sent_after_it() -> None:
    reported = {"endpoint-1": 10.0}

    assert unconfirmed(reported, SERVING, seen_alive(10.2)) == reported
    assert unconfirmed(reported, SERVING, seen_alive(10.6)) == {}


async def test_repeated_reports_do_not_prolong_the_doubt() -> None:
    log = ChangeLog()
    log.report_loss("endpoint-1", 10.0)
    log.report_loss("endpoint-1", 10.5)

    assert await losses_of({}, log, seen_alive(10.6)) == {}
    log.losses = {"endpoint-1": 10.5}
    assert await losses_of({"endpoint-1": 10.0}, log, seen_alive(10.6)) == {}


async def losses_of(
    known: dict[str, float], log: ChangeLog, observed_: Observed
) -> dict[str, float]:
    """Those that still stand once a round has read the reports."""
    reader, before = SnapshotReader(Limits(), StartMode.HYDRA), snapshot(losses=known)
    before = before.changed(endpoints=SERVING)
    untouched = AsyncSession()  # no rows are needed for it
    after = await reader.refresh(untouched, before, observed_, 10.6, log, is_sweep=False)
    return dict(after.losses)


class Start:
    """An endpoint that starts, with a timeout of ten seconds, from round to round."""

    def __init__(self, num_workers: int = 1, purpose: StartPurpose = StartPurpose.REQUEST) -> None:
        is_asked = purpose is StartPurpose.REQUEST
        self.requests = (open_request(endpoint_id="endpoint-1"),) if is_asked else ()
        ids = [f"worker-{i + 1}" for i in range(num_workers)]
        workers = tuple(worker(id=i, state=WorkerState.LAUNCHING, fetch_id=i) for i in ids)
        self.endpoint = endpoint(
            state=EndpointState.STARTING, has_been_ready=False, workers=workers, purpose=purpose
        )
        self.start_activities: Mapping[str, StartActivity] = {}

    def is_stuck(
        self, now_s: float, seen: tuple[WorkerObserved, ...], *fetches: FetchObserved
    ) -> bool:
        now = snapshot(
            now_s=now_s,
            limits=Limits(start_timeout_s=10.0),
            workers={"node-1": seen},
            fetches={"node-1": fetches},
            endpoints=(self.endpoint,),
            requests=self.requests,
            start_activities=self.start_activities,
        )
        decided = decide_round(now, SWEEP, NodeMemo())
        self.start_activities = decided.snapshot.start_activities
        failed = [x for x in decided.decisions if isinstance(x, FailEndpoint)]
        assert all(decision.cause.kind is CauseKind.START_STALLED for decision in failed)
        return bool(failed)


def test_a_start_is_stuck_only_when_nothing_has_moved_for_the_timeout() -> None:
    start, launching = Start(), (observed(WorkerState.LAUNCHING),)

    def is_stuck(bytes_done: int, now_s: float) -> bool:
        fetching = fetch(FetchState.FETCHING, bytes_done=bytes_done, bytes_total=100)
        return start.is_stuck(now_s, launching, fetching)

    assert not is_stuck(1, 0.0)
    assert not is_stuck(1, 10.0)
    assert not is_stuck(2, 11.0)  # a byte arrived
    assert not is_stuck(2, 21.0)
    assert is_stuck(2, 21.1)


def test_a_start_for_nobody_is_not_stuck_while_its_fetch_stands_back_for_others() -> None:
    start, launching = Start(purpose=StartPurpose.MINIMUM), (observed(WorkerState.LAUNCHING),)

    def is_stuck(bytes_of_other: int, now_s: float) -> bool:
        own = fetch(FetchState.FETCHING, bytes_done=1, bytes_total=100)
        other = {"fetch_id": "other", "bytes_done": bytes_of_other, "bytes_total": 1000}
        return start.is_stuck(now_s, launching, own, fetch(FetchState.FETCHING, **other))

    assert not is_stuck(10, 0.0)
    assert not is_stuck(20, 9.0)
    assert not is_stuck(30, 18.0)  # more than the ten seconds without a byte of its own
    assert is_stuck(30, 28.1)


def test_a_start_for_nobody_that_has_its_bytes_is_stuck_whatever_others_fetch() -> None:
    start, launching = Start(purpose=StartPurpose.MINIMUM), (observed(WorkerState.LAUNCHING),)

    def is_stuck(bytes_of_other: int, now_s: float) -> bool:
        own = fetch(FetchState.COMPLETE, bytes_done=100, bytes_total=100)
        other = {"fetch_id": "other", "bytes_done": bytes_of_other, "bytes_total": 1000}
        return start.is_stuck(now_s, launching, own, fetch(FetchState.FETCHING, **other))

    assert not is_stuck(10, 0.0)
    assert is_stuck(20, 10.1)


def test_a_start_whose_engine_computes_slowly_with_all_bytes_there_still_moves() -> None:
    start, fetched = Start(), fetch(FetchState.COMPLETE, bytes_done=100, bytes_total=100)

    def is_stuck(progress: int, now_s: float) -> bool:
        loading = (observed(WorkerState.REGISTERED, progress=progress),)
        return start.is_stuck(now_s, loading, fetched)

    assert not is_stuck(3, 0.0)
    assert not is_stuck(4, 9.0)  # another layer of its first tokens
    assert not is_stuck(5, 18.0)
    assert is_stuck(5, 28.1)


def test_an_idle_engine_that_turns_does_not_move_a_start() -> None:
    start = Start(num_workers=2)

    def is_stuck(progress: int, now_s: float) -> bool:
        ready = observed(WorkerState.READY, progress=progress)
        launching = observed(WorkerState.LAUNCHING, worker_id="worker-2")
        return start.is_stuck(now_s, (ready, launching))

    assert not is_stuck(1, 0.0)
    assert not is_stuck(10, 9.0)
    assert is_stuck(11, 10.1)
