"""Which processes of nodes say what cannot be taken in. For everybody else they are silent.

A leader that has just begun knows of none; the rows keep what an earlier one wrote until the
process says something valid.
"""

import logging
from dataclasses import dataclass, field

from libs.common.bus.repetition import repeats
from libs.common.ids import is_id
from services.scheduler.observation.heartbeat_limits import invalid_field
from services.scheduler.policy.observed import H, Heard, NodeProcess
from services.scheduler.store.columns.text import storable

logger = logging.getLogger(__name__)

MAX_COMPLAINT_CHARACTERS = 200


@dataclass
class InvalidNodes:
    _complaints: dict[NodeProcess, str] = field(default_factory=dict)

    def admits(self, message: H, before: Heard[H] | None) -> bool:
        """Whether everything in it is within its limits; it is remembered if not. `before`: what
        was admitted of the same process last."""
        is_known = before is not None and repeats(message, before.heartbeat)
        complaint = None if is_known else invalid_field(message)
        if complaint is not None:
            self.note(NodeProcess.of(message), complaint)
        elif self._complaints:
            self._complaints.pop(NodeProcess.of(message), None)
        return complaint is None

    def note(self, process: NodeProcess, complaint: str) -> None:
        """Also of a message that could not be read at all."""
        complaint = storable(complaint)[:MAX_COMPLAINT_CHARACTERS]
        if not is_id(process.node_id):
            return
        if process not in self._complaints:
            logger.error("%s of node %s is invalid: %s", process.kind, process.node_id, complaint)
        self._complaints[process] = complaint

    def has_heard(self, node_id: str) -> bool:
        """Of one of its processes what cannot be taken in, last."""
        return any(process.node_id == node_id for process in self._complaints)

    def snapshot(self) -> dict[NodeProcess, str]:
        return dict(self._complaints)
