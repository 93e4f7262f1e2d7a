"""Which of several failures is the root, and who only felt it. Pure but for EchoWatch's memory."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from services.scheduler.policy.cluster import Worker
from services.scheduler.policy.diagnosis import Failing, Finding, Gone

# How a stage tells that another one is gone, and which one if it knows.
_ECHO = re.compile(
    r"lost its neighbour(?: stage (\d+))?|the next stage took nothing|was not linked within"
)
# How a worker tells that its fetch failed; why, and by whose fault, its fetcher says.
_FETCH_ECHO = re.compile(r"the weights cannot be had")


@dataclass(frozen=True)
class RootCause:
    cause: str
    is_node_fault: bool = False
    guilty_id: str | None = None  # the worker that it began with; None: nobody can say
    is_certain: bool = True  # False: only neighbours have spoken yet


@dataclass(frozen=True)
class _Failure:
    worker: Worker
    finding: Gone | Failing
    cause: str

    @property
    def echo_of(self) -> re.Match[str] | None:
        return _ECHO.search(self.cause)

    @property
    def is_echo(self) -> bool:
        return self.echo_of is not None or self.is_of_fetch

    @property
    def is_of_fetch(self) -> bool:
        return _FETCH_ECHO.search(self.cause) is not None

    @property
    def lost_stage(self) -> int | None:
        """The stage whose end it felt."""
        found = self.echo_of
        return int(found[1]) if found is not None and found[1] is not None else None


def find_root(
    workers: Sequence[Worker],
    findings: Sequence[Finding],
    quiet_nodes: Collection[str] = frozenset(),
) -> RootCause | None:
    """Of an endpoint's workers, each with its finding; None while nothing failed.

    A process's own end or a lost node comes before the neighbours who noticed it. A stage that is
    only known from them is its node's fault if that node has become quiet, too.
    """
    failures = [
        _Failure(worker, finding, finding.cause)
        for worker, finding in zip(workers, findings, strict=True)
        if isinstance(finding, Gone | Failing) and finding.cause is not None
    ]
    own = next((failure for failure in failures if not failure.is_echo), None)
    if own is not None:
        return RootCause(own.cause, own.finding.is_node_fault, own.worker.id)
    return _root_of_echoes(workers, failures, quiet_nodes) if failures else None


def _root_of_echoes(
    workers: Sequence[Worker], echoes: Sequence[_Failure], quiet_nodes: Collection[str]
) -> RootCause:
    """Stage 0 lost 1, 1 lost 2: it began with 2, which says nothing, because it hangs."""
    for echo in echoes:
        if echo.is_of_fetch:
            is_node_fault = echo.worker.node_id in quiet_nodes
            return RootCause(echo.cause, is_node_fault, echo.worker.id, is_certain=False)
    speaking = {echo.worker.stage_index for echo in echoes}
    for echo in echoes:
        if echo.lost_stage is None or echo.lost_stage in speaking:
            continue
        silent = next((w for w in workers if w.stage_index == echo.lost_stage), None)
        if silent is not None:
            return _silence(silent, echo.cause, silent.node_id in quiet_nodes)
    return RootCause(f"its stages lost each other: {echoes[0].cause}", is_certain=False)


def _silence(silent: Worker, felt: str, is_node_quiet: bool) -> RootCause:
    if is_node_quiet:
        cause = f"node {silent.node_id} with worker {silent.id} is silent: {felt}"
    else:
        cause = f"worker {silent.id} on node {silent.node_id} hangs: {felt}"
    return RootCause(cause, is_node_quiet, silent.id, is_certain=False)


@dataclass
class EchoWatch:
    """How long an endpoint's only failures have been its neighbours' words; monotonic seconds.

    Whoever ended first may be reported last: its agent has its exit, another one the echo.
    """

    grace_s: float
    _since_s: dict[str, float] = field(default_factory=dict)  # by endpoint

    def may_change(self, endpoint_id: str, root: RootCause, now_s: float) -> bool:
        """Whether a better root may still be heard of."""
        if root.is_certain:
            return False
        return now_s - self._since_s.setdefault(endpoint_id, now_s) < self.grace_s

    def keep_only(self, endpoint_ids: set[str]) -> None:
        for endpoint_id in self._since_s.keys() - endpoint_ids:
            del self._since_s[endpoint_id]
