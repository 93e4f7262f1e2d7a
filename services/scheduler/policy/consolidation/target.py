"""What a worker lacks of its model, and what becomes free once it is the whole endpoint. Pure."""

from dataclasses import dataclass

from libs.common.bus.messages import ModelSummary, UnitSummary
from services.scheduler.policy.cluster import Endpoint, Worker
from services.scheduler.policy.planning.plans import reading_order
from services.scheduler.policy.snapshot import Snapshot


@dataclass(frozen=True)
class ConsolidationTarget:
    """One worker alone, with all layers."""

    lacking: tuple[UnitSummary, ...]  # units, in the order in which it needs them
    unit_digests: tuple[str, ...]  # all that it has then, in the order in which a worker needs them
    num_layers: int
    kv_bytes: int  # of all layers, as many tokens as it has slots for already
    freed_bytes: int  # that the others have reserved on devices

    @property
    def lacking_digests(self) -> tuple[str, ...]:
        return tuple(unit.digest for unit in self.lacking)

    @property
    def load_bytes(self) -> int:
        return sum(unit.size_bytes for unit in self.lacking)


def target_of(snapshot: Snapshot, endpoint: Endpoint) -> ConsolidationTarget | None:
    """Of its entry. None while its manifest is not known, and where its entry is gone."""
    entry = endpoint.entry
    return None if entry is None else target_of_worker(snapshot, endpoint, entry)


def target_of_worker(
    snapshot: Snapshot, endpoint: Endpoint, worker: Worker
) -> ConsolidationTarget | None:
    """None while its manifest is not known."""
    summary = snapshot.summaries.get(worker.manifest_digest)
    if summary is None:
        return None
    units = sorted(summary.units, key=reading_order)
    held = set(worker.unit_digests)
    # Equal units of one model are one unit.
    lacking = {unit.digest: unit for unit in units if unit.digest not in held}
    return ConsolidationTarget(
        lacking=tuple(lacking.values()),
        unit_digests=tuple(unit.digest for unit in units),
        num_layers=summary.num_layers,
        kv_bytes=kv_room_bytes(worker, summary),
        freed_bytes=sum(w.device_bytes for w in endpoint.workers if w.id != worker.id),
    )


def kv_room_bytes(worker: Worker, summary: ModelSummary) -> int:
    """What its reservation has beside the weights of all layers: it was made for those and for the
    KV cache of all layers."""
    return max(0, worker.device_bytes - worker.worker_bytes - summary.weight_bytes)


def has_room(worker: Worker, summary: ModelSummary) -> bool:
    """Whether all layers have room for the KV slots that it has, in what is reserved for it."""
    needed_bytes = worker.worker_bytes + summary.weight_bytes
    needed_bytes += worker.kv_tokens * summary.kv_bytes_per_token
    return worker.device_bytes >= needed_bytes
