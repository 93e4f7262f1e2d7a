"""Weights on their way into a host cache, or there, for a model that may be asked soon. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from libs.common.states import PrefetchState
from services.scheduler.policy.tables.table import Schema, Table

MAX_EXPECTED = 200  # models whose weights may be prefetched, in one sweep


@dataclass(frozen=True)
class Prefetch:
    """One node's part: all the units that a worker there would need, also those that are there,
    so that they stay while the others come."""

    id: str
    tenant: str
    model_id: str
    node_id: str
    fetch_id: str
    manifest_digest: str
    unit_digests: tuple[str, ...]  # in the order in which a worker needs them
    file_bytes: int  # of their files in the host cache
    deadline_at_s: float  # it is dropped if it is not complete by then
    expires_at_s: float  # its model is not expected any more
    state: PrefetchState = PrefetchState.RUNNING


_PREFETCHES = Schema[Prefetch](
    {
        "model": lambda prefetch: (prefetch.model_id,),
        "node": lambda prefetch: (prefetch.node_id,),
        "state": lambda prefetch: (prefetch.state.value,),
    }
)


def prefetch_table(prefetches: Iterable[Prefetch] = ()) -> Table[Prefetch]:
    """Those that are open, by id; indexed by model, node and state."""
    return Table(_PREFETCHES).updated({prefetch.id: prefetch for prefetch in prefetches})
