"""Errors of the scheduler.

HydraError
└── SchedulerError
    ├── LeadershipLost        another scheduler leads, or nobody can say: this process must end
    └── HostCacheNotCompared  a fetcher's answers are of no use, or out of date: try again later
"""

from libs.common.errors import HydraError


class SchedulerError(HydraError):
    pass


class LeadershipLost(SchedulerError):
    def __init__(self, epoch: int, reason: str) -> None:
        self.epoch, self.reason = epoch, reason
        super().__init__(f"leadership of epoch {epoch} is lost: {reason}")


class HostCacheNotCompared(SchedulerError):
    def __init__(self, node_id: str, why: str) -> None:
        self.node_id, self.why = node_id, why
        super().__init__(f"{node_id}: {why}")
