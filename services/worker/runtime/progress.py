"""Counts what the engine's thread does, so that others see whether it hangs. Stdlib only."""


class Progress:
    """Counts turns of the main loop, and within a long step its layers and waits.

    An idle loop turns too, so a count that stands still means a thread that hangs: in a kernel
    that never returns, a driver, a lock. One thread notes, any thread reads.
    """

    def __init__(self) -> None:
        self._count = 0

    @property
    def count(self) -> int:
        return self._count

    def note(self) -> None:
        self._count += 1
