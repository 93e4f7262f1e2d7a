"""A node: what its agent and its fetcher do as they are told, and what they say of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from libs.common.bus.messages import AgentHeartbeat, FetcherHeartbeat, FetchObserved, WorkerObserved
from libs.common.states import WorkerState
from services.scheduler.simulation.cluster.compute import DeviceCompute
from services.scheduler.simulation.cluster.fetch import Fetch, Fetcher
from services.scheduler.simulation.cluster.modelled_worker import ModelledWorker
from services.scheduler.simulation.event_queue import Event, EventQueue
from services.scheduler.simulation.scenario.machines import NodeGroup

_STARTING = frozenset({WorkerState.LAUNCHING, WorkerState.REGISTERED})


@dataclass(eq=False)
class ModelledNode:
    """Its heartbeats are told on changes alone: what is the same as before would change nothing."""

    id: str
    group: NodeGroup
    events: EventQueue
    devices: tuple[DeviceCompute, ...]
    fetcher: Fetcher
    agent_heartbeat: AgentHeartbeat
    fetcher_heartbeat: FetcherHeartbeat
    on_agent: Callable[["ModelledNode"], None]  # it has something to say
    on_fetcher: Callable[["ModelledNode"], None]
    keeps_units: bool
    num_standbys: int = field(init=False)
    workers: dict[str, ModelledWorker] = field(default_factory=dict)
    _seen: dict[str, WorkerObserved] = field(default_factory=dict)  # as was said last
    _fetches: dict[str, FetchObserved] = field(default_factory=dict)
    _next_refill: Event | None = None  # of a node that refills when it is quiet

    def __post_init__(self) -> None:
        self.num_standbys = self.group.num_standbys

    @property
    def is_fetching(self) -> bool:
        return any(not fetch.is_complete for fetch in self.fetcher.fetches.values())

    # ------------------------------------------------------------- what it is told

    def start(self, worker: ModelledWorker, fetch: Fetch) -> None:
        self.workers[worker.row.id] = worker
        self.fetcher.cache.pin(fetch.manifest)
        self.fetch(fetch)
        if worker.row.is_launch_due:
            self.launch(worker)

    def fetch(self, fetch: Fetch) -> None:
        self.fetcher.start(fetch)
        self.say_fetch(fetch.id)

    def hurry(self, fetch_id: str) -> None:
        self.fetcher.hurry(fetch_id)

    def forget(self, fetch_id: str) -> None:
        self.fetcher.forget(fetch_id)
        if self._fetches.pop(fetch_id, None) is not None:
            self._tell_fetches()

    def launch(self, worker: ModelledWorker) -> None:
        has_standby = self.num_standbys > 0
        if has_standby:
            self.num_standbys -= 1
            if not self.group.refills_when_quiet:
                self.events.after(self.group.standby_refill_s, self._refill)
        worker.launch(has_standby=has_standby)

    def stop(self, worker: ModelledWorker) -> None:
        """Its memory is free a moment later."""
        if not worker.is_stopped:
            worker.stop()
            self.events.after(self.group.device.start.stop_s, partial(self._gone, worker))

    def _gone(self, worker: ModelledWorker) -> None:
        row = worker.row
        del self.workers[row.id]
        self._seen.pop(row.id, None)
        if row.fetch_id is not None:
            self.fetcher.forget(row.fetch_id)
            self._fetches.pop(row.fetch_id, None)
        cache, manifest = self.fetcher.cache, row.manifest_digest
        cache.unpin(manifest)
        if not self.keeps_units and cache.drop_unpinned(manifest):
            self.fetcher.on_removed(self.id, manifest)
        self._tell_fetches()
        self._tell_workers()
        self._look_at_standbys()

    def _refill(self) -> None:
        self.num_standbys += 1
        self._tell_workers()

    def _look_at_standbys(self) -> None:
        """A worker's state is another one."""
        if not self.group.refills_when_quiet:
            return
        is_quiet = not any(w.state in _STARTING and not w.is_stopped for w in self.workers.values())
        is_wanted = is_quiet and self.num_standbys < self.group.num_standbys
        if self._next_refill is not None and not is_quiet:
            self._next_refill.cancel()
            self._next_refill = None
        elif self._next_refill is None and is_wanted:
            self._next_refill = self.events.after(self.group.standby_refill_s, self._refill_quietly)

    def _refill_quietly(self) -> None:
        self._next_refill = None
        self._refill()
        self._look_at_standbys()

    # --------------------------------------------------------------- what it says

    def say_worker(self, seen: WorkerObserved) -> None:
        if seen.worker_id in self.workers:
            self._seen[seen.worker_id] = seen
            self._tell_workers()
            self._look_at_standbys()

    def say_fetch(self, fetch_id: str) -> None:
        fetch = self.fetcher.fetches.get(fetch_id)
        if fetch is not None:
            self._fetches[fetch_id] = self.fetcher.observed(fetch)
            self._tell_fetches()

    def say_progress(self) -> None:
        """Of what is being fetched."""
        running = [fetch.id for fetch in self.fetcher.fetches.values() if not fetch.is_complete]
        for fetch_id in running:
            self.say_fetch(fetch_id)

    def _tell_workers(self) -> None:
        said = {"workers": tuple(self._seen.values()), "num_standbys": self.num_standbys}
        self.agent_heartbeat = self.agent_heartbeat.model_copy(update=said)
        self.on_agent(self)

    def _tell_fetches(self) -> None:
        said = {"fetches": tuple(self._fetches.values())}
        self.fetcher_heartbeat = self.fetcher_heartbeat.model_copy(update=said)
        self.on_fetcher(self)
