"""One pass of the reconciler: its transaction, its moment, and what must follow the commit."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import Message
from libs.common.bus.subjects import Subject
from services.scheduler.observation.observed import Observed
from services.scheduler.policy.diagnosis import NodeReport
from services.scheduler.policy.node_faults import NodeFault
from services.scheduler.settings import Timing


@dataclass(frozen=True)
class Outgoing:
    """To be published after the commit. A loss is cured by whoever repeats or asks again."""

    subject: Subject
    token: str | None
    message: Message


@dataclass
class Round:
    session: AsyncSession
    observed: Observed
    timing: Timing
    now_s: float  # monotonic
    now: datetime  # for records that people read
    reports: dict[str, NodeReport] = field(default_factory=dict)
    outgoing: list[Outgoing] = field(default_factory=list)
    after_commit: list[Callable[[], None]] = field(default_factory=list)
    # Nodes whose workers changed: they get a new desired version.
    changed_nodes: set[str] = field(default_factory=set)
    ailing: set[str] = field(default_factory=set)  # endpoints whose end is only a matter of time
    outgrown: set[str] = field(default_factory=set)  # endpoints with too short a context by now
    node_faults: list[NodeFault] = field(default_factory=list)  # that ended a start
    started: set[str] = field(default_factory=set)  # models of which an endpoint became ready
    is_unfinished: bool = False  # another round shall follow at once

    def send(self, subject: Subject, token: str | None, message: Message) -> None:
        self.outgoing.append(Outgoing(subject, token, message))

    def report_of(self, node_id: str) -> NodeReport:
        return self.reports[node_id]
