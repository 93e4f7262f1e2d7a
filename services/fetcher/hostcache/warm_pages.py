"""Memory for units to come, made while nobody fetches.

Which sizes will be wanted is not known; layers of one architecture have one size, so the sizes of
the units that were made last are kept. What is kept is given up as soon as the cache needs it.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from pathlib import Path

from libs.common.weights.sharedpages import NotWanted, SharedPages

NAME_PREFIX = ".warm-"  # of files that an earlier process may have left
_MAX_SIZES = 512
_MAX_EXCESS = 1.25  # a file may be so much larger than what it is taken for


class WarmPages:
    """At most `max_bytes`; 0 keeps nothing. `fill` may run in a thread beside the other methods."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._lock = threading.Lock()
        self._has_ended = threading.Condition(self._lock)  # of making one
        self._sizes: deque[int] = deque(maxlen=_MAX_SIZES)  # of files, the latest last
        self._files: list[SharedPages] = []
        self._making_bytes = self._num_made = self._turn = 0

    @property
    def used_bytes(self) -> int:
        with self._lock:
            return self._making_bytes + sum(file.size_bytes for file in self._files)

    @property
    def making_bytes(self) -> int:
        """Of the file that is being made: not all of it is there, and it cannot be given up."""
        with self._lock:
            return self._making_bytes

    @property
    def turn(self) -> int:
        """For `fill`: it ends with the next stop."""
        with self._lock:
            return self._turn

    def stop(self) -> None:
        """No file is made any more in this turn; one that is being made is left after a step."""
        with self._lock:
            self._turn += 1

    def wait_stopped(self) -> None:
        """After `stop`: until no file is being made, some milliseconds."""
        with self._has_ended:
            self._has_ended.wait_for(lambda: not self._making_bytes)

    def expect(self, sizes_bytes: Iterable[int]) -> None:
        """Files of these sizes were made; the next ones may be alike."""
        with self._lock:
            self._sizes.extend(sizes_bytes)

    def take(self, size_bytes: int) -> SharedPages | None:
        """The smallest that is large enough and not much larger; it is the caller's then."""
        with self._lock:
            self._turn += 1
            fitting = [f for f in self._files if size_bytes <= f.size_bytes]
            found = min(fitting, key=lambda file: file.size_bytes, default=None)
            if found is None or found.size_bytes > _MAX_EXCESS * size_bytes:
                return None
            self._files.remove(found)
            return found

    def give_up(self) -> bool:
        """Free the largest file; False when there is none."""
        with self._lock:
            self._turn += 1
            largest = max(self._files, key=lambda file: file.size_bytes, default=None)
            if largest is None:
                return False
            self._files.remove(largest)
        largest.discard()
        return True

    def fill(self, room_bytes: int, turn: int) -> bool:
        """Make one file that is missing and fits. False when nothing is missing.

        Raises OSError with ENOSPC when others took the memory. The turn, of when the room was
        counted, ends when somebody takes a file.
        """
        self._give_up_unwanted()
        with self._lock:
            missing = self._wanted() - self._have() if turn == self._turn else Counter[int]()
            size_bytes = next((size for size in missing if size <= room_bytes), None)
            self._making_bytes = size_bytes or 0
        if size_bytes is None:
            return False
        file = None
        try:
            file = self._made(size_bytes, lambda: turn == self._turn)
        except NotWanted:
            pass
        finally:
            with self._lock:
                self._making_bytes = 0
                self._files += [file] if file else []
                self._has_ended.notify_all()
        return True

    def _made(self, size_bytes: int, is_wanted: Callable[[], bool]) -> SharedPages:
        self._num_made += 1
        path = self._folder / f"{NAME_PREFIX}{self._num_made}"
        file = SharedPages(path, size_bytes, is_wanted)
        try:
            file.make(is_wanted)
        except BaseException:
            file.discard()
            raise
        return file

    def _give_up_unwanted(self) -> None:
        """What only older units had: its room is needed for what the newest have."""
        with self._lock:
            unwanted = self._have() - self._wanted()
            given_up = []
            for file in list(self._files):
                if unwanted[file.size_bytes]:
                    unwanted[file.size_bytes] -= 1
                    self._files.remove(file)
                    given_up.append(file)
        for file in given_up:
            file.discard()

    def _have(self) -> Counter[int]:
        return Counter(file.size_bytes for file in self._files)

    def _wanted(self) -> Counter[int]:
        """By size, the newest first, as many as the limit allows."""
        wanted, wanted_bytes = Counter[int](), 0
        for size_bytes in reversed(self._sizes):
            wanted_bytes += size_bytes
            if wanted_bytes > self._max_bytes:
                break
            wanted[size_bytes] += 1
        return wanted
