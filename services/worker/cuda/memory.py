"""How much of a GPU torch may take. Pure."""

# Beside weights and cache, which the plan counts: activations, workspaces, captured graphs.
WORKING_BYTES = 2 * 2**30


def torch_share(device_bytes: int, slab_bytes: int, total_bytes: int) -> float:
    """The fraction of the whole device for torch's own allocator, which knows no slab.

    `device_bytes` is what the plan reserved for weights and cache together.
    """
    return min(1.0, (device_bytes - slab_bytes + WORKING_BYTES) / total_bytes)
