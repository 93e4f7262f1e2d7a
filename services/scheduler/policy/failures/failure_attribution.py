"""Which of several failures is the root, and who only felt it. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from libs.common.cause_words import words
from libs.common.causes import Cause, CauseKind
from services.scheduler.policy.cluster import Worker
from services.scheduler.policy.failures.diagnosis import Failing, Finding, Gone


@dataclass(frozen=True)
class RootCause:
    cause: Cause
    guilty_id: str | None = None  # the worker that it began with; None: nobody can say
    is_certain: bool = True  # False: only neighbours have spoken yet


@dataclass(frozen=True)
class _Failure:
    worker: Worker
    cause: Cause

    @property
    def lost_stage(self) -> int | None:
        """The stage whose end it felt, where it knows which."""
        stage = self.cause.facts.get("stage")
        is_of_stage = self.cause.kind is CauseKind.NEIGHBOUR_LOST
        return stage if is_of_stage and isinstance(stage, int) else None


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
        _Failure(worker, finding.cause)
        for worker, finding in zip(workers, findings, strict=True)
        if isinstance(finding, Gone | Failing) and finding.cause is not None
    ]
    own = next((failure for failure in failures if not failure.cause.is_echo), None)
    if own is not None:
        return RootCause(own.cause, own.worker.id)
    return _root_of_echoes(workers, failures, quiet_nodes) if failures else None


def _root_of_echoes(
    workers: Sequence[Worker], echoes: Sequence[_Failure], quiet_nodes: Collection[str]
) -> RootCause:
    """Stage 0 lost 1, 1 lost 2: it began with 2, which says nothing, because it hangs."""
    for echo in echoes:
        if echo.cause.kind is CauseKind.WEIGHTS_UNAVAILABLE:
            return _without_weights(echo, echo.worker.node_id in quiet_nodes)
    speaking = {echo.worker.stage_index for echo in echoes}
    for echo in echoes:
        if echo.lost_stage is None or echo.lost_stage in speaking:
            continue
        silent = next((w for w in workers if w.stage_index == echo.lost_stage), None)
        if silent is not None:
            return _silence(silent, echo.cause, silent.node_id in quiet_nodes)
    felt = words(echoes[0].cause)
    return RootCause(Cause.of(CauseKind.STAGES_SEPARATED, felt=felt), is_certain=False)


def _without_weights(echo: _Failure, is_node_quiet: bool) -> RootCause:
    """Its fetcher has not said why, perhaps because its node is about to be lost."""
    if is_node_quiet:
        return _silence(echo.worker, echo.cause, is_node_quiet)
    return RootCause(echo.cause, echo.worker.id, is_certain=False)


def _silence(silent: Worker, felt: Cause, is_node_quiet: bool) -> RootCause:
    cause = Cause.of(
        CauseKind.NODE_SILENT if is_node_quiet else CauseKind.STAGE_SILENT,
        worker_id=silent.id,
        node_id=silent.node_id,
        felt=words(felt),
    )
    return RootCause(cause, silent.id, is_certain=False)
