"""Nodes and gateways that behave as the protocol says, without a process or a weight in sight."""

import asyncio
import time
from dataclasses import dataclass, field

from libs.common.bus.bus import Bus
from libs.common.bus.messages import (
    AgentHeartbeat,
    BucketDigests,
    CachedUnitsListed,
    CancelRequest,
    ConsolidationObserved,
    DesiredReply,
    DeviceObserved,
    EngineObserved,
    FetcherHeartbeat,
    FetchObserved,
    FetchSpec,
    GatewayHeartbeat,
    ListCachedUnits,
    ListWaiting,
    NodeDesired,
    ReadBucketDigests,
    RequestAssigned,
    RequestProgressed,
    RequestRefused,
    RequestsEnded,
    RoutesPublished,
    SubmitAccepted,
    SubmitReply,
    SubmitRequest,
    SwitchObserved,
    UnacknowledgedEnd,
    WaitingListed,
    WorkerObserved,
    WorkerSpec,
)
from libs.common.bus.route_parts import covers
from libs.common.bus.subjects import (
    GATEWAY_HEARTBEAT,
    NODE_AGENT_HEARTBEAT,
    NODE_BUCKET_DIGESTS,
    NODE_CACHED_UNITS,
    NODE_DESIRED_AGENT,
    NODE_DESIRED_FETCHER,
    NODE_FETCHER_HEARTBEAT,
    REQUEST_ASSIGNED,
    REQUEST_CANCEL,
    REQUEST_PROGRESS,
    REQUEST_REFUSED,
    REQUEST_SUBMIT,
    REQUESTS_ENDED,
    REQUESTS_WAITING,
    ROUTES,
)
from libs.common.causes import Cause, CauseKind
from libs.common.errors import BusError
from libs.common.ids import new_id
from libs.common.states import (
    ConsolidationPhase,
    FetchPurpose,
    FetchState,
    MemberRole,
    WorkerState,
)
from services.fetcher.hostcache.complete_units import CompleteUnits

HEARTBEAT_S = 0.1
MISSING_S = 5.0  # a worker that nothing is said of goes on so long


@dataclass
class Behaviour:
    """What a simulated node does with work; tests change it."""

    completes_fetches: bool = True
    registers_workers: bool = True
    readies_workers: bool = True
    fails_workers: Cause | None = None  # with this cause
    has_full_cache: bool = False  # no fetch can begin
    is_silent: bool = False  # cut off: neither hears nor speaks
    stops_undesired: bool = True
    copies: bool = True  # an entry that has all layers begins to copy
    switches: bool = True  # and becomes the whole endpoint
    switch: SwitchObserved | None = None  # what is told of it
    gives_up: str | None = None  # it does not, for this reason


@dataclass
class SimulatedAgent:
    node_id: str
    bus: Bus
    devices: tuple[DeviceObserved, ...]
    behaviour: Behaviour
    closed_rings: set[tuple[str, int]]  # endpoints, and the generation of their entry alone
    boot_id: str = field(default_factory=lambda: new_id("boot"))
    sequence: int = 0
    accepted: NodeDesired | None = None
    workers: dict[str, WorkerObserved] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)  # every worker id ever launched here
    seen: list[NodeDesired] = field(default_factory=list)
    idle_since_s: dict[str, float] = field(default_factory=dict)
    missing_since_s: dict[str, float] = field(default_factory=dict)  # neither wanted nor stopped
    engines: tuple[EngineObserved, ...] = ()  # what it has measured
    unacknowledged: tuple[UnacknowledgedEnd, ...] = ()

    async def follow(self, desired: NodeDesired) -> DesiredReply | None:
        if self.behaviour.is_silent:
            return None
        self.seen.append(desired)
        if self.accepted is not None and desired.leader_epoch < self.accepted.leader_epoch:
            return DesiredReply(accepted_version=self.accepted.version, refused="a stale epoch")
        self.accepted = desired
        for spec in desired.workers:
            self._follow_worker(spec)
        named = set(desired.stopped_workers)
        if self.behaviour.stops_undesired:
            self.workers = {id_: w for id_, w in self.workers.items() if id_ not in named}
        known = named.union(spec.worker_id for spec in desired.workers)
        now_s, missing = time.monotonic(), self.workers.keys() - known
        self.missing_since_s = {id_: self.missing_since_s.get(id_, now_s) for id_ in missing}
        return DesiredReply(accepted_version=desired.version)

    def _follow_worker(self, spec: WorkerSpec) -> None:
        known = self.workers.get(spec.worker_id)
        if known is None and spec.worker_id not in self.started:
            self.started.append(spec.worker_id)
            self.workers[spec.worker_id] = WorkerObserved(
                worker_id=spec.worker_id,
                endpoint_id=spec.endpoint_id,
                state=WorkerState.LAUNCHING,
                pid=4711,
            )
        elif known is not None:
            self._follow_target(known, spec)
            if known.endpoint_id != spec.endpoint_id:  # it is one of its own
                self.change(spec.worker_id, endpoint_id=spec.endpoint_id)
                self.touch(spec.worker_id)
            if spec.is_draining and known.state is WorkerState.READY:
                self.change(spec.worker_id, state=WorkerState.DRAINING)

    def _follow_target(self, known: WorkerObserved, spec: WorkerSpec) -> None:
        """An entry takes up a target once, and drops it when it is taken back before the switch."""
        target, told = spec.target, known.consolidation
        if target is None:
            if told is not None:
                self.change(spec.worker_id, consolidation=None)
        elif target.generation > known.generation and told is None:
            self._tell(spec.worker_id, target.generation, ConsolidationPhase.LOADING)

    def _tell(
        self, worker_id: str, generation: int, phase: ConsolidationPhase, why: str = ""
    ) -> None:
        told = ConsolidationObserved(generation=generation, phase=phase, why=why)
        self.change(worker_id, consolidation=told)

    def _consolidate(self, worker: WorkerObserved, cached_units: set[str]) -> None:
        """One phase a heartbeat."""
        spec, told = self._spec(worker.worker_id), worker.consolidation
        if spec is None or spec.target is None or told is None:
            return
        generation, phases = told.generation, ConsolidationPhase
        if told.phase in (phases.SWITCHED, phases.ABANDONED):
            return
        if self.behaviour.gives_up is not None:
            self._tell(worker.worker_id, generation, phases.ABANDONED, self.behaviour.gives_up)
        elif not cached_units.issuperset(spec.target.unit_digests):
            return
        elif spec.role is not MemberRole.ENTRY:
            if (spec.endpoint_id, generation) in self.closed_rings:
                self._switch(worker, generation)
        elif told.phase is phases.LOADING:
            if self.behaviour.copies:
                self._tell(worker.worker_id, generation, phases.COPYING)
        elif self.behaviour.switches:
            self.closed_rings.add((spec.endpoint_id, generation))
            self._switch(worker, generation)
            self.change(worker.worker_id, switch=self.behaviour.switch)

    def _switch(self, worker: WorkerObserved, generation: int) -> None:
        self.change(worker.worker_id, generation=generation)
        self._tell(worker.worker_id, generation, ConsolidationPhase.SWITCHED)

    def change(self, worker_id: str, **changes: object) -> None:
        self.workers[worker_id] = self.workers[worker_id].model_copy(update=changes)

    def advance(self, cached_units: set[str]) -> None:
        for worker_id, since_s in self.missing_since_s.items():
            if time.monotonic() - since_s >= MISSING_S and self.behaviour.stops_undesired:
                self.workers.pop(worker_id, None)
        for worker in list(self.workers.values()):
            self._consolidate(worker, cached_units)
            if worker.state not in (WorkerState.LAUNCHING, WorkerState.REGISTERED):
                continue
            if not self._is_linked(worker):
                continue
            if self.behaviour.fails_workers is not None:
                cause = self.behaviour.fails_workers
                self.change(worker.worker_id, state=WorkerState.FAILED, cause=cause)
            elif self.behaviour.readies_workers and self._has_units(worker, cached_units):
                self.change(worker.worker_id, state=WorkerState.READY)
                self.touch(worker.worker_id)

    def _is_linked(self, worker: WorkerObserved) -> bool:
        """A stage says first where it listens, then waits for its neighbours."""
        spec = self._spec(worker.worker_id)
        if spec is None or spec.num_stages == 1 or self.behaviour.fails_workers is not None:
            return True
        if worker.public_key is None and self.behaviour.registers_workers:
            self.change(
                worker.worker_id,
                state=WorkerState.REGISTERED,
                address=f"tcp://127.0.0.1/{worker.worker_id}",
                public_key=worker.worker_id[-8:].rjust(40, "k"),
            )
        has_registered = self.workers[worker.worker_id].public_key is not None
        return has_registered and spec.previous is not None and spec.next is not None

    def _has_units(self, worker: WorkerObserved, cached_units: set[str]) -> bool:
        """Whichever fetch brought them."""
        spec = self._spec(worker.worker_id)
        return spec is not None and cached_units.issuperset(spec.unit_digests)

    def _spec(self, worker_id: str) -> WorkerSpec | None:
        specs = self.accepted.workers if self.accepted is not None else ()
        return next((spec for spec in specs if spec.worker_id == worker_id), None)

    def touch(self, worker_id: str) -> None:
        """Its idle time begins now."""
        self.idle_since_s[worker_id] = time.monotonic()

    def _aged(self, worker: WorkerObserved) -> WorkerObserved:
        since_s = self.idle_since_s.get(worker.worker_id)
        if since_s is None or worker.num_running + worker.num_waiting:
            return worker
        return worker.model_copy(update={"idle_ms": int((time.monotonic() - since_s) * 1000)})

    def heartbeat(self) -> AgentHeartbeat:
        self.sequence += 1
        return AgentHeartbeat(
            node_id=self.node_id,
            boot_id=self.boot_id,
            sequence=self.sequence,
            accepted_version=self.accepted.version if self.accepted else 0,
            devices=self.devices,
            workers=tuple(self._aged(worker) for worker in self.workers.values()),
            engines=self.engines,
            unacknowledged=self.unacknowledged,
        )

    def restart(self) -> None:
        """As after kill -9: its workers died with it, and it remembers nothing."""
        self.boot_id, self.sequence, self.accepted = new_id("boot"), 0, None
        self.workers, self.started, self.engines = {}, [], ()
        self.missing_since_s = {}


@dataclass
class SimulatedFetcher:
    node_id: str
    behaviour: Behaviour
    nic_bytes_per_s: int
    cache_bytes: int = 10**9
    cache_max_bytes: int | None = None
    boot_id: str = field(default_factory=lambda: new_id("boot"))
    sequence: int = 0
    accepted: NodeDesired | None = None
    fetches: dict[str, FetchObserved] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)
    specs: dict[str, FetchSpec] = field(default_factory=dict)
    units: CompleteUnits = field(default_factory=CompleteUnits)  # `cached`, as a fetcher keeps it
    held: set[FetchPurpose] = field(default_factory=set)  # of fetches that do not move on

    async def follow(self, desired: NodeDesired) -> DesiredReply | None:
        if self.behaviour.is_silent:
            return None
        if self.accepted is not None and desired.leader_epoch < self.accepted.leader_epoch:
            return DesiredReply(accepted_version=self.accepted.version, refused="a stale epoch")
        self.accepted = desired
        self.specs = {spec.fetch_id: spec for spec in desired.fetches}
        self.fetches = {id_: f for id_, f in self.fetches.items() if id_ in self.specs}
        for fetch_id in self.specs.keys() - self.fetches.keys():
            self.fetches[fetch_id] = FetchObserved(
                fetch_id=fetch_id, state=FetchState.FETCHING, bytes_done=10, bytes_total=100
            )
        return DesiredReply(accepted_version=desired.version)

    def advance(self) -> None:
        for fetch in list(self.fetches.values()):
            if self.behaviour.has_full_cache:
                full = Cause(CauseKind.HOST_CACHE_FULL)
                self.change(fetch.fetch_id, state=FetchState.FAILED, cause=full)
            elif self._moves_on(fetch):
                self.change(fetch.fetch_id, state=FetchState.COMPLETE, bytes_done=100)
                self.cached.update(self.specs[fetch.fetch_id].unit_digests)

    def _moves_on(self, fetch: FetchObserved) -> bool:
        is_held = self.specs[fetch.fetch_id].purpose in self.held
        is_running = fetch.state is FetchState.FETCHING
        return self.behaviour.completes_fetches and is_running and not is_held

    def change(self, fetch_id: str, **changes: object) -> None:
        self.fetches[fetch_id] = self.fetches[fetch_id].model_copy(update=changes)

    def heartbeat(self) -> FetcherHeartbeat:
        self.sequence += 1
        self.keep_units()
        return FetcherHeartbeat(
            node_id=self.node_id,
            boot_id=self.boot_id,
            sequence=self.sequence,
            accepted_version=self.accepted.version if self.accepted else 0,
            nic_bytes_per_s=self.nic_bytes_per_s,
            measured_bytes_per_s=None,
            cache_capacity_bytes=self.cache_bytes,
            cache_max_bytes=self.cache_max_bytes,
            cache_used_bytes=0,
            host_cache=self.units.report(),
            fetches=tuple(self.fetches.values()),
        )

    def restart(self) -> None:
        """Its unit files outlive it; its memory of what it was told does not."""
        self.boot_id, self.sequence, self.accepted = new_id("boot"), 0, None
        self.fetches, self.specs, self.units = {}, {}, CompleteUnits()
        self.keep_units()
        self.units.forget_changes()

    def keep_units(self) -> None:
        """Note what has come and gone."""
        known = set(self.units)
        for digest in self.cached - known:
            self.units.add(digest)
        for digest in known - self.cached:
            self.units.discard(digest)

    async def read_bucket_digests(self, message: ReadBucketDigests) -> BucketDigests | None:
        self.keep_units()
        return None if self.behaviour.is_silent else self.units.bucket_digests(self.boot_id)

    async def list_units(self, message: ListCachedUnits) -> CachedUnitsListed | None:
        self.keep_units()
        return None if self.behaviour.is_silent else self.units.listed(self.boot_id, message)


class SimulatedNode:
    """An agent and a fetcher that do their work whenever they beat."""

    def __init__(
        self,
        node_id: str,
        bus: Bus,
        *,
        memory_bytes: int,
        nic_bytes_per_s: int = 50_000_000,
        cache_bytes: int = 10**9,
        closed_rings: set[tuple[str, int]] | None = None,
    ) -> None:
        """`closed_rings`: shared by nodes whose workers are stages of one pipeline."""
        self.node_id = node_id
        self.behaviour = Behaviour()
        device = DeviceObserved(index=0, kind="cpu", memory_bytes=memory_bytes, cores=2)
        rings = set() if closed_rings is None else closed_rings
        self.agent = SimulatedAgent(node_id, bus, (device,), self.behaviour, rings)
        self.fetcher = SimulatedFetcher(node_id, self.behaviour, nic_bytes_per_s, cache_bytes)
        self._bus = bus
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._bus.subscribe(NODE_DESIRED_AGENT, self.node_id, self.agent.follow)
        await self._bus.subscribe(NODE_DESIRED_FETCHER, self.node_id, self.fetcher.follow)
        subscribe, fetcher = self._bus.subscribe, self.fetcher
        await subscribe(NODE_BUCKET_DIGESTS, self.node_id, fetcher.read_bucket_digests)
        await subscribe(NODE_CACHED_UNITS, self.node_id, fetcher.list_units)
        self._task = asyncio.create_task(self._beat_for_ever())

    async def beat(self) -> None:
        if self.behaviour.is_silent:
            return
        self.fetcher.advance()
        self.agent.advance(self.fetcher.cached)
        await self._bus.publish(NODE_FETCHER_HEARTBEAT, self.node_id, self.fetcher.heartbeat())
        await self._bus.publish(NODE_AGENT_HEARTBEAT, self.node_id, self.agent.heartbeat())

    async def _beat_for_ever(self) -> None:
        while True:
            await self.beat()
            await asyncio.sleep(HEARTBEAT_S)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()


@dataclass
class SimulatedGateway:
    gateway_id: str
    bus: Bus
    open_ids: set[str] = field(default_factory=set)
    assigned: dict[str, RequestAssigned] = field(default_factory=dict)  # the latest, by request
    all_assigned: list[RequestAssigned] = field(default_factory=list)
    refused: dict[str, RequestRefused] = field(default_factory=dict)
    progressed: list[RequestProgressed] = field(default_factory=list)
    routes: RoutesPublished | None = None
    is_silent: bool = False
    progressed_attempts: dict[str, int] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.bus.subscribe(REQUEST_ASSIGNED, None, self._hear_assigned)
        await self.bus.subscribe(REQUEST_REFUSED, None, self._hear_refused)
        await self.bus.subscribe(REQUEST_PROGRESS, None, self._hear_progress)
        await self.bus.subscribe(ROUTES, None, self._hear_routes)
        self._task = asyncio.create_task(self._beat_for_ever())

    async def submit(self, model_id: str, **changes: object) -> SubmitReply:
        request_id = str(changes.pop("request_id", new_id("request")))
        timeout_s = float(str(changes.pop("timeout_s", 5)))
        message = SubmitRequest(
            request_id=request_id,
            tenant="default",
            gateway_id=self.gateway_id,
            model_id=model_id,
            attempt=1,
            num_prompt_tokens=5,
            max_tokens=16,
            remaining_ms=60_000,
        ).model_copy(update=changes)
        self.open_ids.add(request_id)
        reply = await self.bus.request(REQUEST_SUBMIT, None, message, timeout_s=timeout_s)
        assert isinstance(reply, SubmitReply)
        accepted = reply.result
        if isinstance(accepted, SubmitAccepted) and accepted.assigned is not None:
            await self._hear_assigned(accepted.assigned)
        return reply

    async def list_waiting(self, *request_ids: str, attempt: int = 1) -> dict[str, int] | None:
        """The places of those that wait in that attempt; None without an answer."""
        message = ListWaiting(
            gateway_id=self.gateway_id, attempts=dict.fromkeys(request_ids, attempt)
        )
        try:
            reply = await self.bus.request(REQUESTS_WAITING, None, message, timeout_s=1)
        except BusError:
            return None
        assert isinstance(reply, WaitingListed)
        return reply.positions

    async def tell_ended(self, *request_ids: str) -> None:
        message = RequestsEnded(gateway_id=self.gateway_id, request_ids=request_ids)
        await self.bus.publish(REQUESTS_ENDED, self.gateway_id, message)

    async def resubmit(
        self, model_id: str, request_id: str, *, has_progressed: bool = False
    ) -> SubmitReply:
        """The next attempt, after the endpoint it was given is gone."""
        lost = self.assigned.pop(request_id)
        return await self.submit(
            model_id,
            request_id=request_id,
            attempt=lost.attempt + 1,
            lost_endpoint_id=lost.endpoint_id,
            has_progressed=has_progressed,
        )

    async def cancel(self, request_id: str) -> None:
        message = CancelRequest(request_id=request_id, attempt=1, tenant="default")
        await self.bus.request(REQUEST_CANCEL, None, message, timeout_s=5)
        self.open_ids.discard(request_id)

    async def _hear_assigned(self, message: RequestAssigned) -> None:
        self.assigned[message.request_id] = message
        self.all_assigned.append(message)

    async def _hear_refused(self, message: RequestRefused) -> None:
        self.refused[message.request_id] = message

    async def _hear_progress(self, message: RequestProgressed) -> None:
        self.progressed.append(message)

    async def _hear_routes(self, message: RoutesPublished) -> None:
        """`routes` is what is known of all models."""
        known = {} if self.routes is None else self.routes.routes
        part = message.part
        kept = {id_: r for id_, r in known.items() if part is None or not covers(part, id_)}
        table = {id_: r for id_, r in {**kept, **message.routes}.items() if r}
        self.routes = message.model_copy(update={"routes": table})

    async def _beat_for_ever(self) -> None:
        while True:
            if not self.is_silent:
                await self._beat()
            await asyncio.sleep(HEARTBEAT_S)

    async def _beat(self) -> None:
        beat = GatewayHeartbeat(
            gateway_id=self.gateway_id,
            request_ids=tuple(sorted(self.open_ids)),
            progressed=self.progressed_attempts,
        )
        await self.bus.publish(GATEWAY_HEARTBEAT, self.gateway_id, beat)

    async def tell_progress(self, request_id: str) -> None:
        """The attempt that runs has had a token."""
        self.progressed_attempts[request_id] = self.assigned[request_id].attempt
        await self._beat()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
