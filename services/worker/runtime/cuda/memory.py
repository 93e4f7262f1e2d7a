"""How much of a GPU torch may take. Pure."""

from dataclasses import dataclass

from libs.common.engines import CONTEXT_BYTES
from services.worker.errors import ReservationTooSmall


@dataclass(frozen=True)
class Reservation:
    device_bytes: int  # what the plan reserved for all that this process takes
    slab_bytes: int  # of which torch's allocator knows nothing
    kv_bytes: int  # which torch allocates


def torch_share(reservation: Reservation, total_bytes: int) -> float:
    """The fraction of the whole device for torch's own allocator.

    Raises ReservationTooSmall when not even the KV cache would fit.
    """
    outside = reservation.slab_bytes + CONTEXT_BYTES
    needed = outside + reservation.kv_bytes
    if reservation.device_bytes <= needed:
        raise ReservationTooSmall(reservation.device_bytes, needed)
    return min(1.0, (reservation.device_bytes - outside) / total_bytes)
