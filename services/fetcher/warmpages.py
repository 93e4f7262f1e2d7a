"""Memory for units to come, made while nobody fetches.

Which sizes will be wanted is not known; layers of one architecture have one size, so the sizes of
the units that were made last are kept. What is kept is given up as soon as the cache needs it.
"""

import threading
from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path

from libs.common.sharedpages import SharedPages

NAME_PREFIX = ".warm-"  # of files that an earlier process may have left
_MAX_SIZES = 512
_MAX_EXCESS = 1.25  # a file may be so much larger than what it is taken for


class WarmPages:
    """At most `max_bytes`; 0 keeps nothing. `fill` may run in a thread beside the other methods."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._lock = threading.Lock()
        self._sizes: deque[int] = deque(maxlen=_MAX_SIZES)  # of files, the latest last
        self._files: list[SharedPages] = []
        self._making_bytes = self._num_made = 0
        self._is_wanted = False

    @property
    def used_bytes(self) -> int:
        with self._lock:
            return self._making_bytes + sum(file.size_bytes for file in self._files)

    def expect(self, sizes_bytes: Iterable[int]) -> None:
        """Files of these sizes were made; the next ones may be alike."""
        with self._lock:
            self._sizes.extend(sizes_bytes)

    def take(self, size_bytes: int) -> SharedPages | None:
        """The smallest that is large enough and not much larger; it is the caller's then."""
        with self._lock:
            self._is_wanted = False
            fitting = [f for f in self._files if size_bytes <= f.size_bytes]
            found = min(fitting, key=lambda file: file.size_bytes, default=None)
            if found is None or found.size_bytes > _MAX_EXCESS * size_bytes:
                return None
            self._files.remove(found)
            return found

    def give_up(self) -> bool:
        """Free the largest file; False when there is none."""
        with self._lock:
            self._is_wanted = False
            largest = max(self._files, key=lambda file: file.size_bytes, default=None)
            if largest is None:
                return False
            self._files.remove(largest)
        largest.discard()
        return True

    def fill(self, room_bytes: int) -> bool:
        """Make one file that is missing and fits. False when nothing is missing.

        Raises OSError with ENOSPC when others took the memory. Stops when somebody takes a file.
        """
        self._give_up_unwanted()
        with self._lock:
            missing = self._wanted() - self._have()
            size_bytes = next((size for size in missing if size <= room_bytes), None)
            self._is_wanted, self._making_bytes = True, size_bytes or 0
        if size_bytes is None:
            return False
        file = None
        try:
            file = self._made(size_bytes)
        finally:
            with self._lock:
                self._making_bytes = 0
                self._files += [file] if file else []
        return True

    def _made(self, size_bytes: int) -> SharedPages:
        self._num_made += 1
        path = self._folder / f"{NAME_PREFIX}{self._num_made}"
        file = SharedPages(path, size_bytes)
        try:
            file.make(lambda: self._is_wanted)
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
