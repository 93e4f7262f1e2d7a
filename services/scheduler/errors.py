"""Errors of the scheduler.

HydraError
└── SchedulerError
    └── LeadershipLost   another scheduler leads, or nobody can say: this process must end
"""

from libs.common.errors import HydraError


class SchedulerError(HydraError):
    pass


class LeadershipLost(SchedulerError):
    def __init__(self, epoch: int, reason: str) -> None:
        self.epoch, self.reason = epoch, reason
        super().__init__(f"leadership of epoch {epoch} is lost: {reason}")
