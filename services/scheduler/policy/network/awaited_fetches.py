"""What of a node's flows is known from elsewhere than its fetcher and the rows of workers. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import is_

from services.scheduler.policy.network.observed_flows import awaited, held_of, is_reported
from services.scheduler.policy.snapshot import Snapshot


@dataclass(frozen=True, eq=False)
class AwaitedFetches:
    """The fetches that starts there wait for: their deadlines, and where their fetcher has not told
    how large they are, what is known of their manifests and of the node's host cache."""

    node_id: str
    deadlines_s: tuple[tuple[str, float | None], ...]  # by endpoint
    digests: tuple[str, ...]  # of manifests
    contents: tuple[object, ...]  # of these, by identity

    @classmethod
    def of(
        cls, snapshot: Snapshot, node_id: str, deadlines_s: Mapping[str, float]
    ) -> "AwaitedFetches | None":
        """None: nobody waits there."""
        waiting = awaited(snapshot, node_id)
        if not waiting:
            return None
        endpoint_ids = {worker.endpoint_id for worker in waiting}
        unreported = (worker for worker in waiting if not is_reported(snapshot, worker))
        digests = tuple({worker.manifest_digest for worker in unreported})
        return cls(
            node_id,
            tuple((id_, deadlines_s.get(id_)) for id_ in endpoint_ids),
            digests,
            _contents(snapshot, node_id, digests),
        )

    def has_same_contents(self, snapshot: Snapshot) -> bool:
        return all(map(is_, self.contents, _contents(snapshot, self.node_id, self.digests)))


def _contents(snapshot: Snapshot, node_id: str, digests: Iterable[str]) -> tuple[object, ...]:
    return tuple(
        known
        for digest in digests
        for known in (snapshot.summaries.get(digest), held_of(snapshot, digest, node_id))
    )
