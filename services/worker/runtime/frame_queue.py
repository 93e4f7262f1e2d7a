"""A queue of frames for the engine's thread, which may be busy for minutes while weights arrive."""

import threading
from collections import deque

from services.worker.frames.frames import CancelGeneration, GenerateTokens, ToWorker


class FrameQueue:
    """First in, first out; any thread may call. A prompt whose client has left takes no memory."""

    def __init__(self) -> None:
        self._frames: deque[ToWorker] = deque()
        self._arrived = threading.Condition()

    def put(self, frame: ToWorker) -> None:
        with self._arrived:
            if isinstance(frame, CancelGeneration):
                self._drop(frame)
            self._frames.append(frame)
            self._arrived.notify()

    def get(self, timeout_s: float | None) -> ToWorker | None:
        """The next frame, or None when none has come in time; 0 does not wait at all."""
        if timeout_s == 0 and not self._frames:
            return None
        with self._arrived:
            self._arrived.wait_for(lambda: bool(self._frames), timeout_s)
            return self._frames.popleft() if self._frames else None

    def _drop(self, cancel: CancelGeneration) -> None:
        """What it ends and nobody has taken yet; an older attempt may run, so it goes on itself."""
        if any(_is_ended(frame, cancel) for frame in self._frames):
            self._frames = deque(f for f in self._frames if not _is_ended(f, cancel))


def _is_ended(frame: ToWorker, cancel: CancelGeneration) -> bool:
    return (
        isinstance(frame, GenerateTokens)
        and frame.request_id == cancel.request_id
        and frame.attempt <= cancel.attempt
    )
