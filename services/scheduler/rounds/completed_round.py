"""What a round's transaction has done, and the snapshot that holds once it has committed."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from libs.common.bus.messages import NodeDesired
from services.scheduler.observation.heartbeat_records import Recorded
from services.scheduler.policy.decide import Decided
from services.scheduler.policy.decisions import SkipModel, StartEndpoint
from services.scheduler.policy.effects import after
from services.scheduler.policy.observed import Observed
from services.scheduler.policy.persistent import drop, put_all
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.rounds.applied import Applied


@dataclass(frozen=True)
class CompletedRound:
    """What a round's transaction has done."""

    observed: Observed
    is_sweep: bool
    decided: Decided
    applied: Applied
    written: Snapshot  # as the rows are now
    versions: dict[str, int]  # of nodes that may have to be told something
    wanted: list[NodeDesired]
    untold: frozenset[str]  # nodes that the next round must read what to tell of
    after_commit: list[Callable[[], None]]

    @property
    def is_unfinished(self) -> bool:
        has_begun = any(isinstance(x, StartEndpoint) for x in self.applied.decisions)
        return self.decided.has_unreached or has_begun


def with_new_nodes(snapshot: Snapshot, recorded: Recorded) -> Snapshot:
    """Nodes that had no row; what else heartbeats changed in rows holds from the next round on, so
    that this one still sees whose agent has restarted."""
    new = {id_: r for id_, r in recorded.nodes.items() if id_ not in snapshot.nodes}
    return snapshot.changed(
        nodes=put_all(snapshot.nodes, new), devices=put_all(snapshot.devices, recorded.devices)
    )


def without_nodes(snapshot: Snapshot, node_ids: Collection[str]) -> Snapshot:
    nodes, devices = snapshot.nodes, snapshot.devices
    for node_id in node_ids:
        nodes, devices = drop(nodes, node_id), drop(devices, node_id)
    measured = snapshot.measured.without_nodes(node_ids)
    return snapshot.changed(nodes=nodes, devices=devices, measured=measured)


def written_snapshot(
    snapshot: Snapshot, decided: Decided, applied: Applied, recorded: Recorded
) -> Snapshot:
    """The snapshot as the rows are now.

    A node whose agent has restarted keeps its old boot in memory while a model on it was left out:
    its workers have yet to be ended, and its agent must not be told to run them again.
    """
    unsettled = unsettled_nodes(snapshot, decided, applied)
    if len(applied.decisions) == len(decided.decisions):
        snapshot = decided.snapshot
    else:
        queue = decided.snapshot.queue
        snapshot = after(snapshot, applied.decisions).changed(queue=queue)
    heard = {
        id_: replace(record, agent_boot_id=snapshot.nodes[id_].agent_boot_id)
        if id_ in unsettled
        else record
        for id_, record in recorded.nodes.items()
    }
    return snapshot.changed(nodes=put_all(snapshot.nodes, heard))


def unsettled_nodes(snapshot: Snapshot, decided: Decided, applied: Applied) -> set[str]:
    """Nodes whose agent has restarted, and on which a model was kept from being decided about in
    this round, by a bug or by bad data."""
    models = {x.model_id for x in decided.decisions if isinstance(x, SkipModel)}
    models |= applied.failed_models
    return {
        worker.node_id
        for model_id in models
        for endpoint in snapshot.endpoints.by("model", model_id)
        for worker in endpoint.workers
        if snapshot.report_of(worker.node_id).has_rebooted
    }
