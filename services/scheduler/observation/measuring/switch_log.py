"""Notices what entries newly tell of how they left their pipelines."""

from dataclasses import dataclass, field

from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.store.consolidations.switches import ToldSwitch


@dataclass
class SwitchLog:
    _written: set[tuple[str, int]] = field(default_factory=set)  # of those that are still told

    def new(self, snapshot: Snapshot) -> list[ToldSwitch]:
        """Of whom nothing is written yet."""
        told = [
            ToldSwitch(worker.worker_id, worker.switch)
            for heard in snapshot.observed.agents.values()
            for worker in heard.heartbeat.workers
            if worker.switch is not None
        ]
        self._written &= {one.key for one in told}
        return [one for one in told if one.key not in self._written]

    def note(self, written: ToldSwitch) -> None:
        self._written.add(written.key)
