"""How much of host caches prefetches may take, and of fetchers' attention. Pure.

They take what is free, or what the fetcher would evict for any start: never what workers hold. What
is evicted may be likelier to be asked than what comes, so all that is prefetched and still expected
has a bounded share of each node's cache; in the rest the fetcher keeps what its own order says.
"""

from collections import Counter

from libs.common.states import PrefetchState
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.prefetching.prefetch import Prefetch
from services.scheduler.policy.tables.table import Table


def refusal(node: Node, file_bytes: int, prefetches: Table[Prefetch], limits: Limits) -> str | None:
    """Why nothing of that size is prefetched there now; None: it may be."""
    own = prefetches.by("node", node.id)
    num_running = sum(prefetch.state is PrefetchState.RUNNING for prefetch in own)
    if num_running >= limits.max_prefetches_per_node:
        return f"node {node.id} prefetches for another model"
    if node.cache_bytes is None:
        return f"the host cache of node {node.id} is not known"
    most_bytes = limits.prefetch_cache_share * node.cache_bytes
    if file_bytes + sum(prefetch.file_bytes for prefetch in own) > most_bytes:
        return f"prefetches may take no more of the host cache of node {node.id}"
    if file_bytes + _running_bytes(own) > node.cache_free_bytes:
        return f"workers hold the host cache of node {node.id}"
    return None


def busy_nodes(prefetches: Table[Prefetch], limits: Limits) -> set[str]:
    """That prefetch as much at once as is allowed."""
    running = prefetches.by("state", PrefetchState.RUNNING.value)
    counts = Counter(prefetch.node_id for prefetch in running)
    return {id_ for id_, count in counts.items() if count >= limits.max_prefetches_per_node}


def is_short(node: Node, prefetches: Table[Prefetch]) -> bool:
    """Whether workers need of the host cache what running prefetches hold of it."""
    return _running_bytes(prefetches.by("node", node.id)) > node.cache_free_bytes


def _running_bytes(prefetches: tuple[Prefetch, ...]) -> int:
    """Of those whose units their fetcher keeps."""
    running = (p for p in prefetches if p.state is PrefetchState.RUNNING)
    return sum(prefetch.file_bytes for prefetch in running)
