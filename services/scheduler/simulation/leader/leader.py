"""A leader on virtual time: the real decisions, over a snapshot that it keeps from round to round.

A round begins when something has changed, when the one before it has left something undone, and
each second as a sweep. What it has decided is done a moment later.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from time import perf_counter

from services.scheduler.observation.news import news_of_agent, news_of_fetcher
from services.scheduler.policy import decisions as d
from services.scheduler.policy.decide import Decided, decide_round
from services.scheduler.policy.persistent import as_map
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.prediction.figures import NewValues
from services.scheduler.policy.scaling.activity_effects import changed_activities
from services.scheduler.policy.scaling.traffic_changes import with_traffic, without_old_traffic
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.rounds.change_log import ChangeLog
from services.scheduler.simulation.catalogue import ModelCatalogue
from services.scheduler.simulation.cluster.modelled_node import ModelledNode
from services.scheduler.simulation.cluster.request import SimulatedRequest
from services.scheduler.simulation.errors import SimulationError
from services.scheduler.simulation.event_queue import Event, EventQueue
from services.scheduler.simulation.leader.cached_models import CachedModels
from services.scheduler.simulation.leader.expected_models import ExpectedModels
from services.scheduler.simulation.leader.heard import HeardNodes
from services.scheduler.simulation.leader.held_requests import HeldRequests
from services.scheduler.simulation.leader.request_rows import RequestRows
from services.scheduler.simulation.leader.unasked_models import UnaskedModels
from services.scheduler.simulation.scenario.models import ModelGroup
from services.scheduler.simulation.scenario.scenario import LeaderTiming


@dataclass
class RoundFigures:
    """What rounds have come to; `decide_s` is of this machine's clock, all else is virtual."""

    num_rounds: int = 0
    num_sweeps: int = 0
    num_decisions: int = 0
    num_starts: int = 0
    decide_s: float = 0.0


@dataclass(eq=False)
class Leader:
    """`on_decided` is given each round's decisions, with the snapshot once they are carried out, at
    the moment at which they are made. `before_round` lets nodes say how much work endpoints have of
    models that are asked for, `before_sweep` whatever they have not said."""

    events: EventQueue
    timing: LeaderTiming
    catalogue: ModelCatalogue
    rows: RequestRows
    snapshot: Snapshot
    heard: HeardNodes
    cached: CachedModels
    figures_of: Callable[[str, ModelGroup], NewValues]
    on_decided: Callable[[Decided], None]
    before_round: Callable[[Collection[str]], None]
    before_sweep: Callable[[], None]
    is_prefetching: bool = True  # host caches keep what no worker needs
    figures: RoundFigures = field(default_factory=RoundFigures)
    changes: ChangeLog = field(default_factory=ChangeLog)
    memo: NodeMemo = field(default_factory=NodeMemo)
    _expected: ExpectedModels = field(init=False)
    _held: HeldRequests = field(init=False)
    _unasked: UnaskedModels = field(init=False)
    _new_models: set[str] = field(default_factory=set)
    _free_at_s: float = 0.0  # when the last round is carried out
    _rested_at_s: float = 0.0  # when the next one may follow for which nobody waits
    _next: Event | None = None

    def __post_init__(self) -> None:
        self._expected = ExpectedModels(self.catalogue)
        self._held = HeldRequests(self.timing.waits_for_starts)
        self._unasked = UnaskedModels(self.catalogue)

    def begin(self) -> None:
        self.events.after(0.0, self._sweep)

    # ------------------------------------------------------------------ what it is told

    def submit(self, request: SimulatedRequest) -> None:
        if self._held.hold(request, self.snapshot):
            return
        self.rows.submit(request)
        self._new_models.add(request.model_id)
        self.changes.models.add(request.model_id)
        self._wake(is_hurried=True)

    def end(self, request: SimulatedRequest) -> None:
        """Its slot is free. That matters at once to those who wait for one."""
        is_waited_for = self.is_waited_for(request.model_id)
        self.rows.end(request, is_urgent=is_waited_for)
        if is_waited_for:
            self.changes.models.add(request.model_id)
            self._wake()

    def is_waited_for(self, model_id: str) -> bool:
        return self.snapshot.requests.count("queue", model_id) > 0

    def hear_agent(self, node: ModelledNode) -> None:
        news = news_of_agent(node.agent_heartbeat, self.heard.agent(node.id))
        self.heard.hear_agent(node.id, node.agent_heartbeat)
        if news is not None:
            self.changes.hear(node.id, news)
            self._wake()

    def hear_fetcher(self, node: ModelledNode) -> None:
        news = news_of_fetcher(node.fetcher_heartbeat, self.heard.fetcher(node.id))
        self.heard.hear_fetcher(node.id, node.fetcher_heartbeat)
        if news is not None:
            self.changes.hear(node.id, news)
            self._wake()

    # ----------------------------------------------------------------------- rounds

    def _wake(self, *, is_hurried: bool = False) -> None:
        at_s = max(self.events.now_s, self._free_at_s if is_hurried else self._rested_at_s)
        if self._next is not None:
            if self._next.at_s <= at_s:
                return
            self._next.cancel()
        self._next = self.events.at(at_s, self._run_due)

    def _run_due(self) -> None:
        self._next = None
        self._round(is_sweep=False)

    def _sweep(self) -> None:
        self.events.after(self.timing.sweep_interval_s, self._sweep)
        self.before_sweep()
        if self.is_prefetching:
            self.snapshot = self._expected.read(self.snapshot, self.events.now_s)
            self._new_models |= self.snapshot.prefetchable
        self._round(is_sweep=True)

    def _round(self, *, is_sweep: bool) -> None:
        if is_sweep:
            self.changes.models |= self.rows.changed_models(self.snapshot.requests)
        self.before_round(self.changes.models)
        taken = self.changes.take()
        snapshot = self._refreshed(is_sweep=is_sweep)
        began_s = perf_counter()
        decided = decide_round(snapshot, taken.changed(is_sweep=is_sweep), self.memo)
        self._count(decided, perf_counter() - began_s, is_sweep=is_sweep)
        self.snapshot = decided.snapshot
        activities = changed_activities(snapshot, decided.snapshot, decided.decisions)
        self._expected.write(activities)
        self._unasked.write(activities)
        self.changes.is_continued |= decided.is_unfinished
        self._free_at_s = self.events.now_s + self.timing.round_s
        self._rested_at_s = self._free_at_s + self.timing.pause_s
        self.on_decided(decided)
        for request in self._held.release(self.snapshot):
            self.submit(request)
        if decided.is_unfinished:
            self._wake(is_hurried=True)

    def _count(self, decided: Decided, took_s: float, *, is_sweep: bool) -> None:
        for decision in decided.decisions:
            if isinstance(decision, d.SkipModel | d.SkipNode):
                raise SimulationError(f"a decision failed:\n{decision.error}")
        starts = [x for x in decided.decisions if isinstance(x, d.StartEndpoint)]
        figures = self.figures
        figures.num_rounds += 1
        figures.num_sweeps += is_sweep
        figures.num_decisions += len(decided.decisions)
        figures.num_starts += len(starts)
        figures.decide_s += took_s

    def _refreshed(self, *, is_sweep: bool) -> Snapshot:
        """With what was said and asked meanwhile."""
        if is_sweep:
            self._read_unasked()
        self._add_models()
        before = self.snapshot
        requests = self.rows.read(before.requests, is_sweep=is_sweep)
        snapshot = before
        if is_sweep:
            snapshot = self._without_unused_models(before.changed(requests=requests))
        snapshot = snapshot.changed(
            now_s=self.events.now_s,
            nonce=f"round {self.figures.num_rounds}",
            observed=self.heard.observed(requests, is_sweep=is_sweep),
            requests=requests,
            cached=self.cached.of_waiting(
                requests, (*snapshot.queue.order, *snapshot.prefetchable), is_sweep=is_sweep
            ),
        )
        snapshot = with_traffic(before, snapshot)
        return without_old_traffic(snapshot) if is_sweep else snapshot

    def _read_unasked(self) -> None:
        unasked = self._unasked.read(self.events.now_s)
        self._new_models |= unasked
        self.snapshot = self.snapshot.changed(unasked=unasked)

    def _add_models(self) -> None:
        snapshot, new = self.snapshot, self._new_models
        new = {id_ for id_ in new if id_ not in snapshot.models}
        self._new_models = set()
        if new:
            known = [self.catalogue.model(id_) for id_ in sorted(new)]
            models = as_map(snapshot.models).update({model.row.id: model.row for model in known})
            summaries = as_map(snapshot.summaries).update(
                {model.row.manifest_digest or "": model.summary for model in known}
            )
            measured = snapshot.measured.knowing(new)
            for model in known:
                measured = measured.adding(self.figures_of(model.row.id, model.group))
            self.snapshot = snapshot.changed(models=models, summaries=summaries, measured=measured)

    def _without_unused_models(self, snapshot: Snapshot) -> Snapshot:
        """Of those that neither run nor are asked for nor may start is kept when they were asked,
        and nothing else, as a leader reads."""
        used = {*snapshot.endpoints.keys_of("model"), *snapshot.requests.keys_of("model")}
        used |= snapshot.unasked
        if len(used) == len(snapshot.models):
            return snapshot
        used |= snapshot.prefetchable
        models, summaries = as_map(snapshot.models).mutate(), as_map(snapshot.summaries).mutate()
        for model_id in [id_ for id_ in snapshot.models if id_ not in used]:
            summaries.pop(models.pop(model_id).manifest_digest or "", None)
        return snapshot.changed(
            models=models.finish(),
            summaries=summaries.finish(),
            measured=snapshot.measured.of_models(used),
        )
