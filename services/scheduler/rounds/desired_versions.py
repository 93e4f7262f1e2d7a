"""Which nodes may have to be told something, under which version, and what it is."""

from collections.abc import Iterable, Set
from dataclasses import dataclass, replace
from math import inf

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import NodeDesired
from services.scheduler.policy.persistent import put_all
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.rounds.change_log import ChangeLog
from services.scheduler.rounds.desired_sender import DesiredSender
from services.scheduler.store import desired, nodes

COMPARE_ALL_INTERVAL_S = 5.0  # between two looks at all nodes: changes are looked at at once


@dataclass
class DesiredVersions:
    sender: DesiredSender
    leader_epoch: int
    _compared_all_s: float = -inf  # when all nodes were last asked whether they follow

    async def raise_of(
        self, session: AsyncSession, snapshot: Snapshot, node_ids: Set[str]
    ) -> Snapshot:
        """New versions for nodes whose workers changed."""
        raised = {
            node_id: replace(record, desired_version=version)
            for node_id, version in (await nodes.bump_desired(session, node_ids)).items()
            if (record := snapshot.nodes.get(node_id)) is not None
        }
        return snapshot.changed(nodes=put_all(snapshot.nodes, raised))

    def due(
        self, snapshot: Snapshot, taken: ChangeLog, raised: Set[str], *, is_first: bool
    ) -> dict[str, int]:
        """Of the nodes that may have to be told something; now and then of all."""
        is_due = snapshot.now_s - self._compared_all_s >= COMPARE_ALL_INTERVAL_S
        if taken.is_of_submissions:
            node_ids = set(raised)
        elif is_first or is_due:
            self._compared_all_s = snapshot.now_s
            node_ids = set(snapshot.nodes)
        else:
            node_ids = taken.nodes | raised | self.sender.take_unanswered()
        found = ((id_, snapshot.nodes.get(id_)) for id_ in node_ids)
        return {id_: record.desired_version for id_, record in found if record is not None}

    async def read(
        self, session: AsyncSession, snapshot: Snapshot, node_ids: Iterable[str]
    ) -> list[NodeDesired]:
        """What is to be sent to these nodes, which must be told something new."""
        wanted = {id_: snapshot.nodes[id_].desired_version for id_ in node_ids}
        reported = {id_: snapshot.observed.worker_ids(id_) for id_ in wanted}
        return await desired.load(session, wanted, self.leader_epoch, reported)
