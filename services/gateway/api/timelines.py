"""A cold start with what it was waiting for, worked out from its steps."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.common.observability.criticalpath import Failure, Segment, critical_path
from libs.common.observability.timeline import TimedStep
from libs.common.observability.timeshares import Share, share_of, shares
from services.gateway.store.views import ColdStartDetail, StepView, view_of


@dataclass(frozen=True)
class SegmentView:
    """A part of a step that everything after it waited for."""

    actor: str
    name: str
    node_id: str | None
    stage_index: int | None
    started_at: datetime
    ended_at: datetime
    seconds: float
    share: Share


@dataclass(frozen=True)
class ShareView:
    name: Share
    seconds: float
    fraction: float


@dataclass(frozen=True)
class ColdStartTimeline(ColdStartDetail):
    """The path from the request's arrival to its first token, and what its time went to.

    While the start goes on, the path ends at the last moment that has been reported; of a start
    that failed, in what failed.
    """

    critical_path: tuple[SegmentView, ...]
    shares: tuple[ShareView, ...]


def timeline_of(start: ColdStartDetail) -> ColdStartTimeline:
    steps = [_timed(step, start.started_at) for step in start.steps]
    failure = None if start.cause is None else Failure(start.guilty_worker_id)
    path = critical_path(steps, failure=failure)
    return view_of(
        ColdStartTimeline,
        start,
        critical_path=tuple(_segment(segment, start.started_at) for segment in path),
        shares=tuple(ShareView(part.share, part.seconds, part.fraction) for part in shares(path)),
    )


def _timed(step: StepView, began: datetime) -> TimedStep:
    return TimedStep(
        actor=step.actor,
        name=step.name,
        node_id=step.node_id,
        stage_index=step.stage_index,
        start_s=(step.started_at - began).total_seconds(),
        end_s=None if step.ended_at is None else (step.ended_at - began).total_seconds(),
        detail=step.detail,
    )


def _segment(segment: Segment, began: datetime) -> SegmentView:
    step, interval = segment.step, segment.interval
    return SegmentView(
        actor=step.actor,
        name=step.name,
        node_id=step.node_id,
        stage_index=step.stage_index,
        started_at=began + timedelta(seconds=interval.start_s),
        ended_at=began + timedelta(seconds=interval.end_s),
        seconds=segment.seconds,
        share=share_of(step),
    )
