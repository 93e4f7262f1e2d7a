"""Reaps orphaned processes that the agent has adopted and nobody waits for."""

import os


class OrphanReaper:
    """Whoever watches a child reaps it as soon as it has ended. An ended one that is still there
    at the next look is a stranger: left by a zygote that was killed, or by a worker."""

    def __init__(self) -> None:
        self._seen: int | None = None

    def look(self) -> None:
        """Call it regularly, from the event loop that the watchers use."""
        pid = _ended_child()
        if pid is not None and pid == self._seen:
            os.waitpid(pid, 0)
            pid = None
        self._seen = pid


def _ended_child() -> int | None:
    """One that has ended and was not reaped yet."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found is not None else None
