"""What models that wait, or may be asked soon, find in the nodes' host caches: read from rows when
they begin to, and kept up to date by what this leader writes."""

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.states import ModelState
from services.scheduler.observation.heartbeat_records import Recorded
from services.scheduler.policy.nodes.cached_units import CachedUnits, holders_of
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.rounds.change_log import ChangeLog
from services.scheduler.store import host_cache


def with_changes(snapshot: Snapshot, taken: ChangeLog, recorded: Recorded) -> Snapshot:
    """With what comparisons, and then this round's heartbeats, have changed in rows; what is not
    known is forgotten, to be read again."""
    found = CachedUnits() if taken.are_host_caches_unknown else snapshot.cached or CachedUnits()
    for changes in (*taken.host_caches, recorded.host_caches):
        found = found.changed(changes)
    return snapshot if found is snapshot.cached else snapshot.changed(cached=found)


async def read_waiting(
    session: AsyncSession, snapshot: Snapshot, log: ChangeLog, *, is_sweep: bool
) -> Snapshot:
    """With what rows say of models that have begun to wait: one statement for all of them. A sweep
    drops those that wait no longer."""
    cached = snapshot.cached or CachedUnits()
    if is_sweep or log.is_continued or log.are_host_caches_unknown:
        waiting = {*snapshot.requests.keys_of("queue"), *snapshot.queue.order}
        waiting |= snapshot.prefetchable
    else:
        waiting = {id_ for id_ in log.models if snapshot.requests.count("queue", id_)}
    wanted = _manifests(snapshot, waiting)
    if is_sweep:
        cached = cached.keep_only(wanted)
    missing = {digest: units for digest, units in wanted.items() if cached.of(digest) is None}
    if missing:
        units = frozenset[str]().union(*missing.values())
        nodes_by_unit = await host_cache.nodes_by_unit(session, units)
        cached = cached.including(holders_of(missing, nodes_by_unit))
    return snapshot if cached is snapshot.cached else snapshot.changed(cached=cached)


def _manifests(snapshot: Snapshot, model_ids: set[str]) -> dict[str, frozenset[str]]:
    """The units of the manifests of those that may start, as far as they are known."""
    found = {}
    for model in (snapshot.models[id_] for id_ in model_ids if id_ in snapshot.models):
        summary = snapshot.summaries.get(model.manifest_digest or "")
        if model.state is ModelState.READY and model.manifest_digest and summary is not None:
            found[model.manifest_digest] = frozenset(unit.digest for unit in summary.units)
    return found
