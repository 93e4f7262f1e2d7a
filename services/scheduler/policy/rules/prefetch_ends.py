"""When prefetches are complete, and when they end. Pure."""

from collections.abc import Iterator

from libs.common.cause_words import words
from libs.common.states import FetchState, ModelState, PrefetchState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import Endpoint, Model
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.prefetching.cache_share import is_short
from services.scheduler.policy.prefetching.prefetch import Prefetch
from services.scheduler.policy.snapshot import Snapshot


def end_prefetch(
    snapshot: Snapshot, prefetch: Prefetch, node: Node | None
) -> Iterator[d.EndPrefetch]:
    """`node`: as it can be used now; None: it cannot be."""
    found = _unwanted(prefetch, snapshot.models.get(prefetch.model_id))
    found = found or _started(snapshot, prefetch)
    if prefetch.state is PrefetchState.COMPLETE:
        found = found or _expired(snapshot, prefetch)
    else:
        found = found or _fetched(snapshot, prefetch)
        found = found or _displaced(snapshot, node) or _late(snapshot, prefetch)
    if found is not None:
        state, why = found
        yield d.EndPrefetch(prefetch.model_id, prefetch.id, prefetch.node_id, state, why)


End = tuple[PrefetchState, str]


def _unwanted(prefetch: Prefetch, model: Model | None) -> End | None:
    if model is None or model.state is not ModelState.READY:
        return PrefetchState.UNWANTED, "its model cannot be started any more"
    if model.manifest_digest != prefetch.manifest_digest:
        return PrefetchState.UNWANTED, "its model has other weights now"
    if not model.is_keep_alive_auto:
        return PrefetchState.UNWANTED, "its model has a fixed keep-alive now"
    return None


def _started(snapshot: Snapshot, prefetch: Prefetch) -> End | None:
    """An endpoint is there. Where its own fetch wants the units that are on their way, both go on
    until the fetcher has that one: what has come is then its, all but a read under way."""
    live = [e for e in snapshot.endpoints.by("model", prefetch.model_id) if _is_live(e)]
    if not live:
        return None
    own = [w for e in live for w in e.workers if w.node_id == prefetch.node_id]
    if prefetch.state is PrefetchState.COMPLETE:
        if own:
            return PrefetchState.USED, "an endpoint has started with it"
        return PrefetchState.UNUSED, "an endpoint has started elsewhere"
    if any(w.fetch_id is not None and snapshot.observed.fetch(w) is None for w in own):
        return None
    return PrefetchState.OVERTAKEN, "an endpoint has started"


def _is_live(endpoint: Endpoint) -> bool:
    return endpoint.state.can_take_requests


def _expired(snapshot: Snapshot, prefetch: Prefetch) -> End | None:
    if snapshot.now_s < prefetch.expires_at_s:
        return None
    return PrefetchState.UNUSED, "nobody has asked for its model while that was likely"


def _fetched(snapshot: Snapshot, prefetch: Prefetch) -> End | None:
    heard = snapshot.observed.fetchers.get(prefetch.node_id)
    fetch = None if heard is None else heard.fetches.get(prefetch.fetch_id)
    if fetch is None:
        return None
    if fetch.state is FetchState.COMPLETE:
        return PrefetchState.COMPLETE, "all of it is in the host cache"
    if fetch.state is FetchState.FAILED:
        why = "its fetcher did not say why" if fetch.cause is None else words(fetch.cause)
        return PrefetchState.FAILED, why
    return None


def _displaced(snapshot: Snapshot, node: Node | None) -> End | None:
    if node is None or not is_short(node, snapshot.prefetches):
        return None
    return PrefetchState.DISPLACED, "workers need the room in the host cache"


def _late(snapshot: Snapshot, prefetch: Prefetch) -> End | None:
    if snapshot.now_s < prefetch.deadline_at_s:
        return None
    return PrefetchState.LATE, "it was not complete by its deadline"
