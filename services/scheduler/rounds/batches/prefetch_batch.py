"""Prefetches that begin and end, in rows."""

import logging
from collections.abc import Sequence

from services.scheduler.policy import decisions as d
from services.scheduler.rounds.batches.batch_state import BatchState, of_kind
from services.scheduler.store.fetching import prefetches
from services.scheduler.store.fetching.prefetches import PrefetchEnd

logger = logging.getLogger(__name__)


async def change_prefetches(batch: BatchState, decisions: Sequence[d.Decision]) -> None:
    """Their nodes are told by their desired state."""
    ended, begun = of_kind(d.EndPrefetch, decisions), of_kind(d.StartPrefetch, decisions)
    ends = {x.prefetch_id: PrefetchEnd(x.state, x.why) for x in ended}
    await prefetches.end(batch.session, ends)
    now_s = batch.context.before.now_s
    await prefetches.begin(batch.session, [x.prefetch for x in begun], now_s)
    batch.applied.changed_nodes.update(x.node_id for x in ended)
    batch.applied.changed_nodes.update(x.prefetch.node_id for x in begun)
    for start in begun:
        _log(start.prefetch.id, start.model_id, start.prefetch.node_id, "begins", start.why)
    for end in ended:
        _log(end.prefetch_id, end.model_id, end.node_id, f"is {end.state}", end.why)


def _log(prefetch_id: str, model_id: str, node_id: str, what: str, why: str) -> None:
    logger.info(
        "prefetch %s of model %s on node %s %s: %s", prefetch_id, model_id, node_id, what, why
    )
