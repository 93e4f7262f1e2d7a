"""The heartbeat in unit files, from a thread of its own: a busy event loop must not look dead."""

import threading
from collections.abc import Callable

INTERVAL_S = 0.4


class UnitHeartbeat:
    """Calls `beat` every 0.4 s between enter and exit."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="unit-heartbeat", daemon=True)

    def __enter__(self) -> "UnitHeartbeat":
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL_S):
            self._beat()
