"""What the scheduler wants of this node, and a signal for whoever waits for a change."""

import asyncio
from collections.abc import Collection
from contextlib import suppress

from libs.common.bus.messages import DesiredReply, FetchSpec, NodeDesired, WorkerSpec


class Signal:
    """Wakes everybody who waits; says nothing about why."""

    def __init__(self) -> None:
        self.version = 0  # how often something changed
        self._event = asyncio.Event()

    def notify(self) -> None:
        self.version += 1
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seen_version: int, timeout_s: float) -> None:
        """Return when something changed since `seen_version`, or after the timeout."""
        if self.version != seen_version:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._event.wait()


class Desired:
    """The latest accepted desired state. A lower leader epoch is refused, and an older version of
    the same leader."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self.state: NodeDesired | None = None
        self._manifests: frozenset[str] = frozenset()  # of its fetches and workers
        self._units: frozenset[str] = frozenset()

    @property
    def accepted_version(self) -> int:
        return self.state.version if self.state else 0

    def accept(self, message: NodeDesired) -> DesiredReply:
        refused = self._refusal(message)
        if refused is None:
            self.state = message
            holders: tuple[FetchSpec | WorkerSpec, ...] = (*message.fetches, *message.workers)
            self._manifests = frozenset(x.manifest_digest for x in holders)
            self._units = frozenset(digest for x in holders for digest in x.unit_digests)
        return DesiredReply(accepted_version=self.accepted_version, refused=refused)

    def has_units(self, manifest_digest: str, unit_digests: Collection[str]) -> bool:
        """Whether all of these are part of it, for whatever fetch or worker."""
        return manifest_digest in self._manifests and self._units.issuperset(unit_digests)

    def _refusal(self, message: NodeDesired) -> str | None:
        if message.node_id != self._node_id:
            return f"this is node {self._node_id}"
        if self.state is None or message.leader_epoch > self.state.leader_epoch:
            return None  # a new leader counts as its database does, which may be a restored one
        if message.leader_epoch < self.state.leader_epoch:
            return f"leader epoch {message.leader_epoch} is older than {self.state.leader_epoch}"
        if message.version < self.state.version:
            return f"version {message.version} is older than {self.state.version}"
        return None
