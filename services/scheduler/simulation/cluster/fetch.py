"""A fetch of one worker's units into a node's host cache.

Units that another fetch of the node is bringing are waited for, and not brought twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from libs.common.bus.messages import FetchObserved
from libs.common.states import FetchClass, FetchState
from services.scheduler.simulation.cluster.fluid_network import Flow, FluidNetwork
from services.scheduler.simulation.cluster.host_cache import HostCache, size_of


@dataclass(eq=False)
class Fetch:
    """`units` are bits in the order of `sizes`, as are `own`: those that it brings itself."""

    id: str
    manifest: str
    units: int
    sizes: Sequence[int]
    on_complete: Callable[[], None]
    fetch_class: FetchClass = FetchClass.INTERACTIVE
    own: int = 0
    bytes_from_cache: int = 0
    is_complete: bool = False
    flow: Flow | None = None
    followers: list[Callable[[], None]] = field(default_factory=list)
    num_awaited: int = 0  # its own flow, and fetches of others

    @property
    def bytes_total(self) -> int:
        return size_of(self.units, self.sizes)


@dataclass(eq=False)
class Fetcher:
    """Of one node. `on_units` is told of units that came, and of manifests that went."""

    node_id: str
    network: FluidNetwork
    cache: HostCache
    on_added: Callable[[str, str, int], None]  # node, manifest, units
    on_removed: Callable[[str, str], None]  # node, manifest: nothing of it is left
    fetches: dict[str, Fetch] = field(default_factory=dict)
    _bringing: dict[str, list[Fetch]] = field(default_factory=dict)  # by manifest

    def start(self, fetch: Fetch) -> None:
        self.fetches[fetch.id] = fetch
        held = self.cache.held(fetch.manifest) & fetch.units
        fetch.bytes_from_cache = size_of(held, fetch.sizes)
        missing = fetch.units & ~held
        for other in self._bringing.get(fetch.manifest, ()):
            if other.own & missing:
                missing &= ~other.own
                if fetch.fetch_class is FetchClass.INTERACTIVE:
                    self._hurry(other)
                fetch.num_awaited += 1
                other.followers.append(partial(self._has_part, fetch))
        fetch.own = missing
        if missing:
            fetch.num_awaited += 1
            self._bringing.setdefault(fetch.manifest, []).append(fetch)
            size_bytes = size_of(missing, fetch.sizes)
            arrived = partial(self._arrived, fetch)
            fetch.flow = self.network.start(self.node_id, size_bytes, arrived, fetch.fetch_class)
        if not fetch.num_awaited:
            self._complete(fetch)

    def hurry(self, fetch_id: str) -> None:
        """Somebody waits for it by now."""
        fetch = self.fetches.get(fetch_id)
        if fetch is not None:
            self._hurry(fetch)
            for others in self._bringing.get(fetch.manifest, ()):
                if others.own & fetch.units:
                    self._hurry(others)

    def _hurry(self, fetch: Fetch) -> None:
        fetch.fetch_class = FetchClass.INTERACTIVE
        if fetch.flow is not None:
            self.network.set_class(fetch.flow, FetchClass.INTERACTIVE)

    def forget(self, fetch_id: str) -> None:
        """Nobody needs it any more. What others wait for is brought nevertheless."""
        fetch = self.fetches.pop(fetch_id, None)
        if fetch is None or fetch.flow is None or fetch.flow.is_over or fetch.followers:
            return
        self.network.cancel(fetch.flow)
        self._no_longer_brings(fetch)

    def observed(self, fetch: Fetch) -> FetchObserved:
        state = FetchState.COMPLETE if fetch.is_complete else FetchState.FETCHING
        total = done = fetch.bytes_total
        if fetch.flow is not None and not fetch.is_complete:
            done -= int(fetch.flow.size_bytes - self.network.done_bytes(fetch.flow))
        return FetchObserved.model_construct(
            fetch_id=fetch.id,
            state=state,
            bytes_done=done,
            bytes_total=total,
            bytes_from_cache=fetch.bytes_from_cache,
            cause=None,
            steps=(),
        )

    def _arrived(self, fetch: Fetch) -> None:
        self._no_longer_brings(fetch)
        removed = self.cache.add(fetch.manifest, fetch.own, fetch.sizes)
        self.on_added(self.node_id, fetch.manifest, fetch.own)
        for manifest in removed:
            self.on_removed(self.node_id, manifest)
        self._has_part(fetch)
        for follower in fetch.followers:
            follower()
        fetch.followers.clear()

    def _no_longer_brings(self, fetch: Fetch) -> None:
        bringing = self._bringing[fetch.manifest]
        bringing.remove(fetch)
        if not bringing:
            del self._bringing[fetch.manifest]

    def _has_part(self, fetch: Fetch) -> None:
        fetch.num_awaited -= 1
        if not fetch.num_awaited and fetch.id in self.fetches:
            self._complete(fetch)

    def _complete(self, fetch: Fetch) -> None:
        fetch.is_complete = True
        fetch.on_complete()
