"""Brings what is and what shall be together: snapshot → decide → apply, one transaction a round.

A round may be repeated, interrupted or begun by another leader at any point: it starts from rows
and from what nodes said last. What this leader keeps between rounds is the snapshot, which it reads
whole when it begins and again after a round whose commit is in doubt.
"""

import logging
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from math import inf

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.bus import Bus
from libs.common.bus.message_hold import MessageHold
from libs.common.bus.messages import ListRoutes, RoutesPublished
from libs.common.clock import Clock
from libs.common.errors import BusError
from services.scheduler.observation.heartbeat_log import HeartbeatLog
from services.scheduler.observation.heartbeat_records import HeartbeatRecords
from services.scheduler.observation.measuring.recorder import MeasurementRecorder
from services.scheduler.observation.queue_speed import QueueSpeed
from services.scheduler.observation.queued_requests import QueuedRequests
from services.scheduler.observation.timeline import Timeline
from services.scheduler.policy.changes import Changed
from services.scheduler.policy.consolidation.decisions import ConsolidationDecision
from services.scheduler.policy.decide import decide_round
from services.scheduler.policy.decisions import (
    AssignRequest,
    EndWorker,
    FailEndpoint,
    ServeEndpoint,
    StopWorkers,
)
from services.scheduler.policy.observed import Observed
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.scaling.activity_effects import changed_activities
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.rounds.accounting import Accounting
from services.scheduler.rounds.applied import Applied, RoundContext
from services.scheduler.rounds.apply import Applier
from services.scheduler.rounds.change_log import ChangeLog
from services.scheduler.rounds.completed_round import (
    CompletedRound,
    unsettled_nodes,
    with_new_nodes,
    without_nodes,
    written_snapshot,
)
from services.scheduler.rounds.computing import compute_aside
from services.scheduler.rounds.desired_sender import DesiredSender
from services.scheduler.rounds.desired_versions import DesiredVersions
from services.scheduler.rounds.outgoing import Outgoing
from services.scheduler.rounds.progress import ProgressReporter
from services.scheduler.rounds.reader import SnapshotReader
from services.scheduler.rounds.reading.waiting_units import with_changes
from services.scheduler.rounds.route_publisher import RoutePublisher
from services.scheduler.store import scaling
from services.scheduler.store.fenced_transactions import FencedTransactions, ping

logger = logging.getLogger(__name__)

_MOVES = (ServeEndpoint, FailEndpoint, StopWorkers, EndWorker, ConsolidationDecision)
MAX_READ_NODES = 250  # of which is read in one round what they shall run; all, by a new leader


@dataclass
class RoundLoop:
    """Runs rounds, and keeps the snapshot between them."""

    fenced: FencedTransactions
    bus: Bus
    clock: Clock
    log: HeartbeatLog
    changes: ChangeLog
    reader: SnapshotReader
    records: HeartbeatRecords
    applier: Applier
    timeline: Timeline
    sender: DesiredSender
    versions: DesiredVersions
    routes: RoutePublisher
    progress: ProgressReporter
    queue_speed: QueueSpeed
    queued: QueuedRequests
    sweep_interval_s: float
    hold: MessageHold  # of what nodes say; closed while a round runs
    accounting: Accounting = field(default_factory=Accounting)
    measuring: MeasurementRecorder = field(default_factory=MeasurementRecorder)
    snapshot: Snapshot | None = None  # after the last round; None: to be read whole
    _before_unknown_commit: Snapshot | None = None  # before a round whose commit is in doubt
    memo: NodeMemo = field(default_factory=NodeMemo)
    _swept_at_s: float = -inf
    _was_of_submissions: bool = False  # the round before

    @property
    def num_busy(self) -> int:
        """Nodes, endpoints and open requests that it keeps."""
        kept = self.snapshot
        if kept is None:
            return 0
        return len(kept.nodes) + len(kept.endpoints) + len(kept.requests)

    def forget_nodes(self, node_ids: Collection[str]) -> None:
        """Their rows go, in a transaction between two rounds."""
        self.log.forget_nodes(node_ids)
        self.records.forget(node_ids)
        if self.snapshot is not None:
            self.snapshot = without_nodes(self.snapshot, node_ids)
            self.sender.keep_only(self.snapshot.nodes.keys())

    async def run_round(self) -> bool:
        """Whether another one shall follow at once. Raises DatabaseUnavailable, LeadershipLost."""
        taken = ChangeLog()
        try:
            async with AsyncExitStack() as stack:
                session = await stack.enter_async_context(self.fenced.transaction())
                # Together, with nothing awaited between: what is heard later belongs to the next.
                taken, observed = self._take()
                if self.snapshot is not None:  # reading it takes long, and silence would count
                    stack.enter_context(self.hold.closed())
                done = await self._carry_out(session, taken, observed)
        except BaseException:
            # Whether it committed is not known: the rows are the record.
            self.changes.put_back(taken)
            self._before_unknown_commit = self.snapshot or self._before_unknown_commit
            self.snapshot = None
            raise
        await self._follow_up(done)
        self._was_of_submissions = taken.is_of_submissions
        return done.is_unfinished or bool(done.untold) or taken.is_of_submissions

    def _take(self) -> tuple[ChangeLog, Observed]:
        """What the round is about. Whoever waits for a start does not wait for a round about what a
        hundred nodes have said meanwhile; such a round follows, though others ask in between."""
        since_sweep_s = self.clock.monotonic_s() - self._swept_at_s
        is_overdue = since_sweep_s >= 2 * self.sweep_interval_s
        # What is on a node that is another one than before is for no plan until it is looked at.
        must_follow = self._was_of_submissions or is_overdue or bool(self.changes.whole_nodes)
        kept = self.snapshot
        # What a new leader's first rounds have not heard yet is no sign of a loss.
        if kept is None or must_follow or not kept.knows_all_nodes or not self.changes.submitted:
            return self.changes.take(), self.log.snapshot()
        return self.changes.take_submitted(), self.log.snapshot_of_gateways(kept.observed)

    async def _carry_out(
        self, session: AsyncSession, taken: ChangeLog, observed: Observed
    ) -> CompletedRound:
        """The transaction's part of a round."""
        now_s = self.clock.monotonic_s()
        is_first = self.snapshot is None
        is_due = now_s - self._swept_at_s >= self.sweep_interval_s
        is_sweep = is_first or (is_due and not taken.is_of_submissions)
        if is_sweep:
            self.queued.begin_sweep()
        snapshot = self.snapshot or await self._load(session, now_s)
        recorded = await self.records.write(
            session, observed, snapshot.nodes, now_s, None if is_sweep else taken.nodes
        )
        taken.look_at_nodes(recorded.changed_nodes)
        snapshot = with_new_nodes(snapshot, recorded)
        snapshot = with_changes(snapshot, taken, recorded)
        snapshot = await self.reader.refresh(
            session,
            snapshot,
            observed,
            now_s,
            taken,
            is_sweep=is_sweep,
            has_new_sizes=recorded.has_new_sizes,
        )
        changed = taken.changed(is_sweep=is_sweep)
        decide = partial(decide_round, snapshot, changed, self.memo)
        # All endpoints at once take long, and meanwhile the leader must show that it lives.
        decided = await compute_aside(decide, partial(ping, session)) if is_first else decide()
        context = RoundContext(snapshot, self.clock.now())
        applied = await self.applier.apply(session, context, decided.decisions)
        told = await self._record_steps(session, snapshot, changed, applied)
        measured = await self.measuring.record(session, snapshot, changed, applied.decisions)
        written = measured.into(written_snapshot(snapshot, decided, applied, recorded))
        activities = changed_activities(snapshot, written, applied.decisions)
        await scaling.write_activities(session, activities, now_s)
        raised = applied.changed_nodes | recorded.changed_nodes
        written = await self.versions.raise_of(session, written, raised)
        versions = self.versions.due(written, taken, raised, is_first=is_first)
        unknown = sorted(self.sender.unknown(observed, versions), key=lambda id_: id_ not in raised)
        wanted = await self.versions.read(session, written, unknown[:MAX_READ_NODES])
        if is_sweep:
            await self.accounting.close(session, observed, now_s)
        remember = [*recorded.after_commit, *applied.after_commit, *told, *measured.after_commit]
        return CompletedRound(
            *(observed, is_sweep, decided, applied, written, versions, wanted),
            untold=frozenset(unknown[MAX_READ_NODES:]),
            after_commit=remember,
        )

    async def _follow_up(self, done: CompletedRound) -> None:
        """What follows the commit."""
        self.snapshot, self._before_unknown_commit = done.written, None
        if done.applied.is_out_of_date:
            self._before_unknown_commit, self.snapshot = done.written, None
        self.queued.follow(done.applied.decisions)
        if done.is_sweep:
            self._swept_at_s = done.written.now_s
            self.queued.end_sweep(done.written)
        self.changes.is_continued |= done.is_unfinished
        self.changes.models |= done.applied.dropped_models
        for remember in done.after_commit:
            remember()
        for decision in done.applied.decisions:
            if isinstance(decision, AssignRequest):
                self.queue_speed.note_assigned(decision.model_id, done.written.now_s)
        unsettled = unsettled_nodes(done.written, done.decided, done.applied)
        self.changes.look_at_nodes(unsettled)
        self.sender.look_again(done.untold)
        later = unsettled | done.untold
        versions = {id_: v for id_, v in done.versions.items() if id_ not in later}
        self.sender.ensure(done.observed, done.wanted, versions)
        await self._publish(done.written, done.applied)

    async def _load(self, session: AsyncSession, now_s: float) -> Snapshot:
        self.routes.forget()
        snapshot, before = await self.reader.load(session, now_s), self._before_unknown_commit
        return snapshot if before is None else snapshot.remembering(before)

    async def _record_steps(
        self, session: AsyncSession, snapshot: Snapshot, changed: Changed, applied: Applied
    ) -> list[Callable[[], None]]:
        """Of endpoints that move on, whose workers may not be told of any more; of all starts only
        in a sweep: steps are for people."""
        moving = {x.endpoint_id for x in applied.decisions if isinstance(x, _MOVES)}
        found = {id_: snapshot.endpoints[id_] for id_ in moving if id_ in snapshot.endpoints}
        if changed.is_sweep:
            found |= self.timeline.unfinished(snapshot.endpoints, snapshot.now_s)
        return await self.timeline.record(session, snapshot.observed, found.values())

    async def _publish(self, snapshot: Snapshot, applied: Applied) -> None:
        """Hints and wake-ups only: each is repeated or asked for again by somebody."""
        for outgoing in applied.outgoing:
            await self._publish_one(outgoing)
        models = {decision.model_id for decision in applied.decisions}
        for due in (partial(self.routes.due, changed_models=models), self.progress.due):
            try:
                hints = due(snapshot)
            except Exception:  # a bug in what is only told must not undo what was decided
                logger.exception("routes or progress are not told this time")
                continue
            for outgoing in hints:
                await self._publish_one(outgoing)

    async def list_routes(self, message: ListRoutes) -> RoutesPublished | None:
        """A handler of ROUTES_LIST; while a commit is in doubt nobody is answered."""
        return None if self.snapshot is None else self.routes.listed(self.snapshot, message)

    async def _publish_one(self, outgoing: Outgoing) -> None:
        try:
            await self.bus.publish(outgoing.subject, outgoing.token, outgoing.message)
        except BusError as exc:
            logger.warning("not published: %s", exc)
