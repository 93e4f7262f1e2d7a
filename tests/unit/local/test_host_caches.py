"""Host caches and the shared memory that all of them lie in."""

import pytest

from deploy.local.errors import SharedMemoryTooSmall
from deploy.local.nodes import NodeOptions
from deploy.local.state.host_caches import fit_to_memory, require_room, total_bytes

NODES = (
    NodeOptions("small", host_cache_bytes=100 * 10**6),
    NodeOptions("large", host_cache_bytes=300 * 10**6),
)


@pytest.mark.parametrize(
    ("free_bytes", "expected_megabytes"),
    [
        (10**9, [100, 300]),  # as they were wanted
        (320 * 10**6, [75, 225]),  # in the same proportion, and a sixteenth is left
        (64 * 10**6, [15, 45]),  # a container's
    ],
)
def test_caches_are_made_to_fit_shared_memory_together(
    free_bytes: int, expected_megabytes: list[int]
) -> None:
    nodes = fit_to_memory(NODES, free_bytes)

    assert [node.host_cache_bytes // 10**6 for node in nodes] == expected_megabytes


def test_a_node_keeps_a_cache_however_full_shared_memory_is() -> None:
    assert total_bytes(fit_to_memory(NODES, 0)) == len(NODES)


def test_what_does_not_fit_is_said_with_its_cure() -> None:
    require_room(NODES, 10**9, 400 * 10**6)

    with pytest.raises(SharedMemoryTooSmall) as caught:
        require_room(NODES, 64 * 10**6, 401 * 10**6)

    assert str(caught.value) == (
        "the model needs 401 MB of host caches, the nodes have 400 MB together, and /dev/shm has "
        "64 MB free; give it more: docker run --shm-size=2g for a container, "
        "mount -o remount,size=2G /dev/shm elsewhere; or set --host-cache"
    )
