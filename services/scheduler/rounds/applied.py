"""What a round is carried out with, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from services.scheduler.policy import decisions as d
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.rounds.outgoing import Outgoing


@dataclass
class Applied:
    """What came of a round's decisions."""

    decisions: list[d.Decision] = field(default_factory=list)  # carried out, in their order
    dropped_models: set[str] = field(default_factory=set)  # what is known of them is out of date
    failed_models: set[str] = field(default_factory=set)  # of which nothing was carried out
    is_out_of_date: bool = False  # rows differ from memory: all is to be read again
    outgoing: list[Outgoing] = field(default_factory=list)
    after_commit: list[Callable[[], None]] = field(default_factory=list)
    changed_nodes: set[str] = field(default_factory=set)  # they get a new desired version

    def merge(self, other: "Applied") -> None:
        self.decisions += other.decisions
        self.dropped_models |= other.dropped_models
        self.failed_models |= other.failed_models
        self.is_out_of_date |= other.is_out_of_date
        self.outgoing += other.outgoing
        self.after_commit += other.after_commit
        self.changed_nodes |= other.changed_nodes


@dataclass(frozen=True)
class RoundContext:
    """Of a round. `before` is the snapshot that it decided from."""

    before: Snapshot
    now: datetime  # for records that people read
