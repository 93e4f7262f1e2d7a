"""Clusters in which a model is likely to be asked soon."""

from dataclasses import dataclass, field, replace
from typing import Any

from immutables import Map

from libs.common.bus.messages import ModelSummary
from services.scheduler.policy import decisions as d
from services.scheduler.policy.changes import SWEEP
from services.scheduler.policy.cluster import Model
from services.scheduler.policy.decide import decide_round
from services.scheduler.policy.nodes.cached_units import CachedUnits, holders_of
from services.scheduler.policy.planning.memory import files_bytes
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.gap_history import GapHistory, history_of
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.snapshots import NOW_S, SmallCluster, a_model
from tests.unit.scheduler.values import endpoint, summary, worker

# Asked every ten minutes: likely from 430.5 s to 608.9 s after the last request.
REGULAR = history_of([600.0] * 40)
FROM_S, UNTIL_S = 2**8.75, 2**9.25
WEIGHTS = summary()  # 510 bytes, in four units
FILE_BYTES = files_bytes(WEIGHTS)
NIC_BYTES_PER_S = 10  # all of them take 51 s


def auto(name: str = "model-1", **changes: Any) -> Model:
    """Its start takes 51.1 s, and is to take a second."""
    return a_model(name, **{"is_keep_alive_auto": True, "slo_ttft_s": 1.0, **changes})


@dataclass
class ExpectedModels:
    """Nobody has asked the models for so long. By model where they differ."""

    idle_s: float = 400.0
    gaps: GapHistory = REGULAR
    cluster: SmallCluster = field(default_factory=SmallCluster)
    activities: dict[str, ModelActivity] = field(default_factory=dict)
    cached: dict[str, tuple[str, ...]] = field(default_factory=dict)  # nodes by unit
    changes: dict[str, Any] = field(default_factory=dict)  # of the snapshot

    def add_node(self, node_id: str = "node-1", **heard: Any) -> "ExpectedModels":
        self.cluster.add_node(node_id, **{"nic_bytes_per_s": NIC_BYTES_PER_S, **heard})
        return self

    def add_model(
        self, model: Model, weights: ModelSummary = WEIGHTS, idle_s: float | None = None
    ) -> "ExpectedModels":
        self.cluster.add_model(model, weights)
        since_s = NOW_S - (self.idle_s if idle_s is None else idle_s)
        activity = ModelActivity(self.gaps).started(5.0, 5.0).rested(since_s)
        self.activities[model.id] = activity
        return self

    def hold(self, node_id: str, *units: str) -> "ExpectedModels":
        """In its host cache."""
        for unit in units:
            self.cached[unit] = (*self.cached.get(unit, ()), node_id)
        return self

    def serve(self, model: Model, weights: ModelSummary = WEIGHTS, **changes: Any) -> None:
        """An endpoint of it on a node, with all its weights, that was asked a moment ago."""
        if model.id not in self.cluster.models:
            self.cluster.add_model(model, weights)
        own = worker(
            id=f"worker-{model.id}",
            endpoint_id=f"endpoint-{model.id}",
            manifest_digest=model.manifest_digest,
            unit_digests=tuple(unit.digest for unit in weights.units),
            fetch_id=f"fetch-{model.id}",
            **{"node_id": "node-1", "device_bytes": 100, **changes},
        )
        made = endpoint(
            id=own.endpoint_id,
            model_id=model.id,
            workers=(own,),
            idle_since_s=NOW_S - 10.0,
            ready_since_s=NOW_S - 300.0,
        )
        self.cluster.endpoints[made.id] = made
        self.cluster.hear_ready(made, idle_ms=10_000)

    def snapshot(self) -> Snapshot:
        units = {
            digest: frozenset(unit.digest for unit in weights.units)
            for digest, weights in self.cluster.summaries.items()
        }
        cached = CachedUnits().including(holders_of(units, self.cached))
        values = {
            "activities": Map(self.activities),
            "prefetchable": frozenset(self.activities),
            "cached": cached,
            **self.changes,
        }
        return self.cluster.snapshot(**values)


def later(snapshot: Snapshot, seconds: float) -> Snapshot:
    """Nobody has said anything new."""
    return replace(snapshot, now_s=snapshot.now_s + seconds, nonce=f"{snapshot.now_s + seconds}")


@dataclass(frozen=True)
class Swept:
    starts: list[d.StartPrefetch]
    ends: list[d.EndPrefetch]
    deferred: list[d.DeferPrefetch]
    after: Snapshot

    @property
    def nodes(self) -> list[str]:
        return [start.prefetch.node_id for start in self.starts]

    @property
    def why_not(self) -> str:
        assert not self.starts and len(self.deferred) == 1
        return self.deferred[0].why


def sweep(snapshot: Snapshot) -> Swept:
    decided = decide_round(snapshot, SWEEP, NodeMemo())
    skipped = [x for x in decided.decisions if isinstance(x, d.SkipModel)]
    assert not skipped, skipped[0].error
    return Swept(
        [x for x in decided.decisions if isinstance(x, d.StartPrefetch)],
        [x for x in decided.decisions if isinstance(x, d.EndPrefetch)],
        [x for x in decided.decisions if isinstance(x, d.DeferPrefetch)],
        decided.snapshot,
    )
