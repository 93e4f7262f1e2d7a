"""Which of several failures is the root, and who only felt it. Pure."""

from collections.abc import Sequence

from services.scheduler.diagnosis import Failing, Finding, Gone

LOST_NEIGHBOUR = "lost its neighbour"  # how a stage begins its cause when another one is gone


def root_failure(findings: Sequence[Finding]) -> Gone | Failing | None:
    """Of workers that are still wanted: a process's own end or a lost node before the neighbours
    who noticed it."""
    failures = [f for f in findings if isinstance(f, Gone | Failing) and f.cause is not None]
    return min(failures, key=_is_echo, default=None)


def _is_echo(failure: Gone | Failing) -> bool:
    return LOST_NEIGHBOUR in (failure.cause or "")
