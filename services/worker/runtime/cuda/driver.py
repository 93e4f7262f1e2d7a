"""What of the CUDA driver the start of a worker needs: the port. Stdlib only.

Pointers, streams and events are plain integers. Every method may be called by any thread that has
called `enter`; each raises DriverError, which names the driver's own function and error.
"""

from typing import Protocol


class Driver(Protocol):
    def visible_uuids(self) -> tuple[str, ...]:
        """Of the GPUs and MIG instances that CUDA shows this process, in its order. Any thread."""

    def open_context(self) -> None:
        """Make the primary context of the visible GPU, which torch will share, once a process.

        It is current in the calling thread then.
        """

    def enter(self) -> None:
        """Make the context current in the calling thread."""

    def allocate_device(self, num_bytes: int) -> int: ...

    def allocate_host(self, num_bytes: int) -> int:
        """Page-locked host memory, which copies read without a detour.

        Never given back: that waits for the whole device.
        """

    def create_stream(self, *, is_urgent: bool) -> int:
        """One that never waits for the default stream, nor makes that wait."""

    def create_event(self) -> int: ...

    def copy_to_device(self, target: int, source: int, num_bytes: int, stream: int) -> None:
        """Begin a copy; `source` must stay as it is until an event recorded after it is there."""

    def record(self, event: int, stream: int) -> None:
        """Have `event` be there when all that `stream` was given so far is done."""

    def wait(self, event: int) -> None:
        """Sleep until it is there."""
