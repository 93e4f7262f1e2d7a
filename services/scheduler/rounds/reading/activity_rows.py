"""Rows about endpoints that nobody waits for, and about when models were asked, to the snapshot."""

from collections.abc import Collection, Mapping

from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.policy.persistent import put_all
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.store import scaling

MAX_IDLE_MODELS = 4096  # more than there are models that run, before they are forgotten


async def read_unasked(session: AsyncSession, snapshot: Snapshot) -> Snapshot:
    """In a sweep: what operators ask for, and whose endpoints may start for nobody."""
    commands = await scaling.load_commands(session, snapshot.now_s)
    pinned, ahead = await scaling.load_pinned(session), await scaling.load_ahead(session)
    return snapshot.changed(commands=commands, unasked=pinned.union(ahead, commands))


async def read_activities(
    session: AsyncSession, snapshot: Snapshot, model_ids: Collection[str] | None
) -> Snapshot:
    """Of these models, or of all that the snapshot has; only what it does not know yet, because
    this leader alone writes them."""
    activities: Mapping[str, ModelActivity] = snapshot.activities
    wanted = snapshot.models if model_ids is None else model_ids
    missing = [id_ for id_ in wanted if id_ in snapshot.models and id_ not in activities]
    if missing:
        found = await scaling.load_activities(session, missing, snapshot.now_s)
        never_asked = {id_: ModelActivity() for id_ in missing if id_ not in found}
        activities = put_all(activities, {**never_asked, **found})
    if model_ids is None and len(activities) > len(snapshot.models) + MAX_IDLE_MODELS:
        activities = {id_: activities[id_] for id_ in snapshot.models}
    if activities is snapshot.activities:
        return snapshot
    return snapshot.changed(activities=activities)
