"""How much of a GPU torch may take. Pure."""

from libs.common.engines import CONTEXT_BYTES


def torch_share(device_bytes: int, slab_bytes: int, total_bytes: int) -> float:
    """The fraction of the whole device for torch's own allocator, which knows no slab.

    `device_bytes` is what the plan reserved for all that this process takes.
    """
    return min(1.0, (device_bytes - slab_bytes - CONTEXT_BYTES) / total_bytes)
