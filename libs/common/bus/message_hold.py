"""Holds back messages that supersede each other while their listener is busy with other things."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class MessageHold:
    """While it is closed it keeps of each sender the newest message, unread: those before it are
    never handled. For messages alone that say everything anew, and ask for no reply."""

    _num_closing: int = 0
    _newest: dict[str, Callable[[], Awaitable[object]]] = field(default_factory=dict)

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
        self._newest[sender] = handle
        return True

    async def release(self) -> None:
        """Handle what was kept, in the order in which the senders first spoke."""
        kept, self._newest = self._newest, {}
        for handle in kept.values():
            await handle()
            await asyncio.sleep(0)  # others have the event loop in between
