"""What decisions about prefetches change in the snapshot. Pure."""

from dataclasses import replace

from libs.common.states import PrefetchState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.persistent import drop, put
from services.scheduler.policy.snapshot import Snapshot

# That has ended without use: it is not tried again before its model's window is over.
_NOT_AGAIN = (PrefetchState.FAILED, PrefetchState.LATE, PrefetchState.UNUSED)


def after_prefetch(
    snapshot: Snapshot, decision: d.StartPrefetch | d.EndPrefetch | d.DeferPrefetch
) -> Snapshot:
    match decision:
        case d.StartPrefetch(prefetch=prefetch):
            return snapshot.changed(prefetches=snapshot.prefetches.updated({prefetch.id: prefetch}))
        case d.DeferPrefetch(model_id=model_id, until_s=until_s):
            looks = put(snapshot.prefetch_looks_s, model_id, until_s)
            return snapshot.changed(prefetch_looks_s=looks)
        case d.EndPrefetch():
            return _ended(snapshot, decision)


def _ended(snapshot: Snapshot, decision: d.EndPrefetch) -> Snapshot:
    known = snapshot.prefetches.get(decision.prefetch_id)
    if known is None:
        return snapshot
    state = decision.state
    left = replace(known, state=state) if state.is_open else None
    looks = snapshot.prefetch_looks_s
    if state in _NOT_AGAIN:
        looks = put(looks, known.model_id, known.expires_at_s)
    return snapshot.changed(
        prefetches=snapshot.prefetches.updated({known.id: left}), prefetch_looks_s=looks
    )


def without_old_looks(snapshot: Snapshot) -> Snapshot:
    """Of models that are not looked at any more nothing is kept."""
    looks = snapshot.prefetch_looks_s
    for model_id in [id_ for id_, at_s in looks.items() if at_s <= snapshot.now_s]:
        looks = drop(looks, model_id)
    return snapshot.changed(prefetch_looks_s=looks)
