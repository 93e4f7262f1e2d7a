"""Rows and heartbeats to a snapshot: all of it when a leader begins, then only what has changed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import ModelSummary
from libs.common.ids import new_id
from libs.common.startmode import StartMode
from libs.common.states import ModelState
from services.scheduler.policy.cluster import EndpointFailure, Model, OpenRequest
from services.scheduler.policy.failures.unconfirmed_losses import unconfirmed
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.nodes.changed_keys import changed_keys
from services.scheduler.policy.observed import Observed
from services.scheduler.policy.persistent import as_map, drop, put_all
from services.scheduler.policy.planning.usable_cluster import by_node
from services.scheduler.policy.scaling.traffic_changes import with_traffic, without_old_traffic
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.policy.tables.snapshot_tables import (
    endpoint_table,
    failure_table,
    request_table,
)
from services.scheduler.policy.tables.table import Table
from services.scheduler.rounds.change_log import ChangeLog
from services.scheduler.rounds.reading.activity_rows import read_activities, read_unasked
from services.scheduler.rounds.reading.known_figures import load_figures, read_models
from services.scheduler.rounds.reading.prefetch_rows import load_prefetches, read_prefetchable
from services.scheduler.rounds.reading.summary_cache import SummaryCache
from services.scheduler.rounds.reading.waiting_units import read_waiting
from services.scheduler.store import devices, fleet, models, nodes, requests

# Failed endpoints are remembered that long: for suspicion, orphans, and words about the last one.
MEMORY_OF_FAILURES_S = 900.0
MAX_AGE_OF_SIZES_S = 10.0  # unless a node or a device is new: reading them takes long
MAX_SUMMARIES = 4096  # more than models are known, before those that nothing needs are left out


@dataclass
class _Versions:
    """Of the rows that the last sweep has seen."""

    by_request: dict[str, str] = field(default_factory=dict)
    sizes_at_s: float = -inf  # when the devices' sizes were read; -inf: there are others since


@dataclass(frozen=True)
class SnapshotReader:
    limits: Limits
    mode: StartMode
    summaries: SummaryCache = field(default_factory=SummaryCache)
    versions: _Versions = field(default_factory=_Versions)

    async def load(self, session: AsyncSession, now_s: float) -> Snapshot:
        """Whatever this leader, or one before it, has written. Requests and models are left to
        `refresh`, with a sweep."""
        self.versions.sizes_at_s = -inf
        endpoints = await fleet.load_fleet(session, now_s)
        failures = await fleet.load_failures(session, now_s, MEMORY_OF_FAILURES_S)
        offered = await devices.load_devices(session)
        held = {worker.manifest_digest for e in endpoints for worker in e.workers} - {""}
        return Snapshot(
            now_s=now_s,
            limits=self.limits,
            mode=self.mode,
            nodes=await nodes.load(session),
            devices=by_node(offered),
            endpoints=endpoint_table({endpoint.id: endpoint for endpoint in endpoints}),
            failures=failure_table({failure.endpoint_id: failure for failure in failures}),
            summaries=await self.summaries.of(session, held),
            measured=await load_figures(session),
            prefetches=await load_prefetches(session, now_s),
            knows_requests=False,
        )

    async def refresh(
        self,
        session: AsyncSession,
        snapshot: Snapshot,
        observed: Observed,
        now_s: float,
        log: ChangeLog,
        *,
        is_sweep: bool,
        has_new_sizes: bool = False,
    ) -> Snapshot:
        """With what others wrote and said meanwhile. Adds to `log` the models of its requests."""
        before = snapshot
        snapshot = snapshot.changed(now_s=now_s, nonce=new_id("round"), observed=observed)
        if is_sweep:
            snapshot = await read_prefetchable(session, await read_unasked(session, snapshot))
        table = await self._requests(session, snapshot, log, is_sweep=is_sweep)
        snapshot = snapshot.changed(requests=table, knows_requests=True)
        known = await self._models(session, snapshot, log, is_sweep=is_sweep)
        summaries: Mapping[str, ModelSummary] = snapshot.summaries
        read = known.values() if is_sweep else [known[id_] for id_ in log.models if id_ in known]
        missing = {digest for digest in _digests(read) if digest not in summaries}
        if missing:
            summaries = put_all(summaries, await self.summaries.of(session, missing))
        if is_sweep and len(summaries) > MAX_SUMMARIES + len(known):
            kept = _digests(known.values()) | _held_digests(snapshot)
            summaries = {digest: summaries[digest] for digest in kept if digest in summaries}
        is_waited_for = any(True for _ in table.keys_of("queue"))
        if has_new_sizes:
            self.versions.sizes_at_s = -inf
        is_unknown = self.versions.sizes_at_s == -inf
        is_old = now_s - self.versions.sizes_at_s >= MAX_AGE_OF_SIZES_S
        if (is_waited_for and is_unknown) or (is_sweep and is_old):
            snapshot = snapshot.changed(sizes=await devices.load_sizes(session))
            self.versions.sizes_at_s = now_s
        losses = {**log.losses, **snapshot.losses}
        snapshot = snapshot.changed(
            models=known,
            summaries=summaries,
            losses=unconfirmed(losses, snapshot.endpoints, observed),
        )
        snapshot = await read_models(session, snapshot, log, is_sweep=is_sweep)
        snapshot = await read_waiting(session, snapshot, log, is_sweep=is_sweep)
        snapshot = await read_activities(session, snapshot, None if is_sweep else log.models)
        snapshot = with_traffic(before, snapshot)
        return _without_the_old(snapshot) if is_sweep else snapshot

    async def _requests(
        self, session: AsyncSession, snapshot: Snapshot, log: ChangeLog, *, is_sweep: bool
    ) -> Table[OpenRequest]:
        now_s, before = snapshot.now_s, snapshot.requests
        if is_sweep:
            table = await self._swept_requests(session, snapshot)
            log.models |= _models_that_differ(before, table)
            return table
        if not log.models and not log.requests:
            return before
        found = await requests.load_open(
            session, now_s, model_ids=log.models, request_ids=log.requests
        )
        gone = {id_ for id_ in log.requests if id_ in before}
        gone.update(r.id for model_id in log.models for r in before.by("model", model_id))
        log.models.update(before[id_].model_id for id_ in gone)
        log.models.update(request.model_id for request in found.values())
        unknown = log.requests - found.keys() - gone
        if unknown:  # warm ones, of which only their end is heard: their slots are free
            log.models.update(await requests.load_model_ids(session, unknown))
        return before.updated({**dict.fromkeys(gone), **found})

    async def _swept_requests(
        self, session: AsyncSession, snapshot: Snapshot
    ) -> Table[OpenRequest]:
        """Of thousands that wait few change in a second: only rows written since are read."""
        before, now_s = snapshot.requests, snapshot.now_s
        versions = await requests.load_versions(session)
        known, self.versions.by_request = self.versions.by_request, versions
        changed = {
            id_
            for id_, version in versions.items()
            if not version or known.get(id_) != version or id_ not in before
        }
        gone = set(before.rows) - versions.keys()
        if len(changed) > len(versions) / 2:
            return request_table(await requests.load_open(session, now_s))
        found = await requests.load_open(session, now_s, model_ids=(), request_ids=changed)
        return before.updated({**dict.fromkeys(gone | changed), **found})

    async def _models(
        self, session: AsyncSession, snapshot: Snapshot, log: ChangeLog, *, is_sweep: bool
    ) -> Mapping[str, Model]:
        if is_sweep:
            wanted = {
                *snapshot.endpoints.keys_of("model"),
                *snapshot.requests.keys_of("model"),
                *snapshot.unasked,
                *snapshot.prefetchable,
            }
            read, differing = _as_known(
                snapshot.models, await models.load(session, wanted, snapshot.now_s)
            )
            log.models |= differing
            return read
        is_wanted = {
            id_
            for id_ in log.models
            if snapshot.requests.count("model", id_) or snapshot.endpoints.count("model", id_)
        }
        if not is_wanted:
            return snapshot.models
        found = await models.load(session, is_wanted, snapshot.now_s)
        known = as_map(snapshot.models).mutate()
        for id_ in is_wanted - found.keys():
            known.pop(id_, None)
        known.update(found)
        return known.finish()


def _as_known(
    before: Mapping[str, Model], found: Mapping[str, Model]
) -> tuple[Mapping[str, Model], set[str]]:
    """What was read, with the values that were known where nothing has changed; and the ids of
    models that have changed, or came or went."""
    known = as_map(before).mutate()
    gone = {id_ for id_ in before if id_ not in found}
    changed = {id_: model for id_, model in found.items() if before.get(id_) != model}
    for id_ in gone:
        del known[id_]
    known.update(changed)
    return known.finish(), gone | changed.keys()


def _models_that_differ(before: Table[OpenRequest], after: Table[OpenRequest]) -> set[str]:
    """Of requests that came, went, or were written."""
    return changed_keys(before.versions("model"), after.versions("model"))


def _digests(known: Iterable[Model]) -> set[str]:
    """Manifests of models that may start."""
    return {
        model.manifest_digest
        for model in known
        if model.state is ModelState.READY and model.manifest_digest is not None
    }


def _held_digests(snapshot: Snapshot) -> set[str]:
    """Manifests of workers that hold units."""
    return {worker.manifest_digest for e in snapshot.endpoints for worker in e.workers}


def _without_the_old(snapshot: Snapshot) -> Snapshot:
    """What time alone makes irrelevant: no decision asks for it any more."""
    faults = snapshot.node_faults.items()
    return without_old_traffic(snapshot).changed(
        failures=_remembered(snapshot),
        node_faults={id_: s for id_, s in faults if not s.is_over(snapshot.now_s)},
        unlisted_since_s=_of_open(snapshot.unlisted_since_s, snapshot.requests),
    )


def _remembered(snapshot: Snapshot) -> Table[EndpointFailure]:
    """Without those that failed long ago and of which no request is left."""
    forgotten = [
        failure.endpoint_id
        for failure in snapshot.failures
        if snapshot.now_s - failure.at_s >= MEMORY_OF_FAILURES_S
        and not snapshot.requests.count("endpoint", failure.endpoint_id)
    ]
    return snapshot.failures.updated(dict.fromkeys(forgotten))


def _of_open(since_s: Mapping[str, float], requests: Table[OpenRequest]) -> Mapping[str, float]:
    """Of requests that have not ended meanwhile."""
    for id_ in [id_ for id_ in since_s if id_ not in requests]:
        since_s = drop(since_s, id_)
    return since_s
