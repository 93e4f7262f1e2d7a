"""What an entry lacks of its model, and what becomes free once it is the whole endpoint. Pure."""

from dataclasses import dataclass

from libs.common.bus.messages import ModelSummary, UnitSummary
from services.scheduler.policy.cluster import Endpoint, Worker
from services.scheduler.policy.planning.plans import reading_order
from services.scheduler.policy.snapshot import Snapshot


@dataclass(frozen=True)
class ConsolidationTarget:
    """The entry alone, with all layers."""

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
    """None while its manifest is not known, and where its entry is gone."""
    entry = endpoint.entry
    summary = None if entry is None else snapshot.summaries.get(entry.manifest_digest)
    if entry is None or summary is None:
        return None
    units = sorted(summary.units, key=reading_order)
    held = set(entry.unit_digests)
    # Equal units of one model are one unit.
    lacking = {unit.digest: unit for unit in units if unit.digest not in held}
    return ConsolidationTarget(
        lacking=tuple(lacking.values()),
        unit_digests=tuple(unit.digest for unit in units),
        num_layers=summary.num_layers,
        kv_bytes=kv_room_bytes(entry, summary),
        freed_bytes=sum(w.device_bytes for w in endpoint.workers if w.id != entry.id),
    )


def kv_room_bytes(entry: Worker, summary: ModelSummary) -> int:
    """What its reservation has beside the weights of all layers: it was made for those and for the
    KV cache of all layers."""
    return max(0, entry.device_bytes - entry.worker_bytes - summary.weight_bytes)


def has_room(entry: Worker, summary: ModelSummary) -> bool:
    """Whether all layers have room for the KV slots that it has, in what is reserved for it."""
    needed_bytes = entry.worker_bytes + summary.weight_bytes
    needed_bytes += entry.kv_tokens * summary.kv_bytes_per_token
    return entry.device_bytes >= needed_bytes
