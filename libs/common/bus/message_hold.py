"""Holds back messages that supersede each other while their listener is busy with other things."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from libs.common.clock import Clock


@dataclass(frozen=True)
class _Kept:
    handle: Callable[[], Awaitable[object]]
    arrived_s: float


@dataclass
class MessageHold:
    """While it is closed it keeps of each sender the newest message, unread: those before it are
    never handled. For messages alone that say everything anew, and ask for no reply."""

    clock: Clock
    _num_closing: int = 0
    _newest: dict[str, _Kept] = field(default_factory=dict)
    _arrived_s: float | None = None  # the message that is being released

    @property
    def num_kept(self) -> int:
        return len(self._newest)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """What was kept stays so until `release`."""
        self._num_closing += 1
        try:
            yield
        finally:
            self._num_closing -= 1

    def keeps(self, sender: str, handle: Callable[[], Awaitable[object]]) -> bool:
        """Whether the message was kept; `handle` handles it later. Also while an older one of the
        same sender waits: it must not be handled after a newer one."""
        if self._num_closing == 0 and sender not in self._newest:
            return False
        self._newest[sender] = _Kept(handle, self.clock.monotonic_s())
        return True

    def arrived_s(self) -> float:
        """For a handler, before it awaits anything: when its message came, in monotonic seconds."""
        return self.clock.monotonic_s() if self._arrived_s is None else self._arrived_s

    async def release(self) -> None:
        """Handle what was kept until now, in the order in which the senders first spoke."""
        for sender in tuple(self._newest):
            kept = self._newest.pop(sender, None)
            if kept is None:
                continue
            self._arrived_s = kept.arrived_s
            try:
                await kept.handle()
            finally:
                self._arrived_s = None
            await asyncio.sleep(0)  # others have the event loop in between
