"""Whether empty devices could ever hold a model, and if not, what is missing. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest

from services.scheduler.policy.cluster import Deployable, Device, DeviceSize
from services.scheduler.policy.nodes.cluster import Cluster
from services.scheduler.policy.nodes.lazy import cached_property
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.planning import planner
from services.scheduler.policy.planning.memory import files_bytes, kv_budget_bytes
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.planning.projected_cluster import empty_cluster

MAX_ANSWERS = 10_000  # remembered of one reading


@dataclass(frozen=True)
class PlannedShape:
    """All that a plan on empty devices depends on, of a model: many models are equal in it."""

    dtype: str
    num_layers: int
    max_context_tokens: int
    kv_bytes_per_token: int
    weight_bytes: int
    units: tuple[tuple[str, int | None, int], ...]  # kind, layer and size
    settings: tuple[int | None, ...]

    @classmethod
    def of(cls, deployable: Deployable) -> "PlannedShape":
        model, summary = deployable.model, deployable.summary
        return cls(
            summary.dtype,
            summary.num_layers,
            summary.max_context_tokens,
            summary.kv_bytes_per_token,
            summary.weight_bytes,
            tuple((unit.kind, unit.layer, unit.size_bytes) for unit in summary.units),
            (
                model.max_pipeline_size,
                model.max_slots,
                model.max_context_tokens,
                model.kv_cache_bytes,
            ),
        )


@dataclass(frozen=True, eq=False)
class EmptyDevices:
    """A cluster as if nothing ran on it and nothing was cached, asked about each shape once."""

    cluster: Cluster
    _fitting: dict[PlannedShape, bool] = field(default_factory=dict)
    _answers: dict[tuple[PlannedShape, str], str] = field(default_factory=dict)  # and by name

    def shortage(self, deployable: Deployable, shape: PlannedShape | None = None) -> str | None:
        """Why it could never hold the model; None if it could, and while no device is known.
        `shape`: the model's, if the caller has it."""
        if not self.cluster.nodes:
            return None
        shape = shape or PlannedShape.of(deployable)
        if len(self._fitting) >= MAX_ANSWERS or len(self._answers) >= MAX_ANSWERS:
            self._fitting.clear()
            self._answers.clear()
        if shape not in self._fitting:
            self._fitting[shape] = _fits(self.cluster, deployable)
        if self._fitting[shape]:
            return None
        key = (shape, deployable.model.name)  # which the words have
        if key not in self._answers:
            self._answers[key] = self._shortage(deployable)
        return self._answers[key]

    def _shortage(self, deployable: Deployable) -> str:
        dtype = deployable.summary.dtype
        able = [(n, d) for n, d in _devices(self.cluster.nodes) if d.computes(dtype)]
        if not able:
            return _type_shortage(deployable)
        if _fits(self._with_any_cache, deployable):
            return _cache_shortage(deployable, max(node.cache_bytes or 0 for node, _ in able))
        return _memory_shortage(deployable, [device.memory_bytes for _, device in able])

    @cached_property
    def _with_any_cache(self) -> Cluster:
        return Cluster.of(replace(node, cache_bytes=None) for node in self.cluster.nodes)


@dataclass
class KnownDevices:
    """What earlier rounds found out about empty devices, for as long as these are the same."""

    _sizes: tuple[DeviceSize, ...] = ()
    _all: EmptyDevices = field(default_factory=lambda: EmptyDevices(Cluster.of(())))
    _usable: EmptyDevices = field(default_factory=lambda: EmptyDevices(Cluster.of(())))
    _compared: tuple[Node | None, ...] | None = None  # the nodes of which `_usable` is made

    def all(self, sizes: tuple[DeviceSize, ...]) -> EmptyDevices:
        if sizes is not self._sizes and sizes != self._sizes:
            self._all = self._usable = EmptyDevices(empty_cluster(sizes))
            self._compared = None
        self._sizes = sizes
        return self._all

    def usable(self, sizes: tuple[DeviceSize, ...], cluster: Cluster) -> EmptyDevices:
        """Of the nodes that can be used now, with no more host cache than their file systems have
        room for beside what others keep there."""
        known = self.all(sizes).cluster
        if cluster.by_row is not self._compared:
            self._compared = cluster.by_row
            changes = dict(_other_than(self._usable.cluster, known, cluster))
            if changes:
                self._usable = EmptyDevices(self._usable.cluster.changed(changes))
        return self._usable


def shortage(deployable: Deployable, known: Iterable[DeviceSize]) -> str | None:
    """As of `EmptyDevices`, of devices of these sizes."""
    return EmptyDevices(empty_cluster(known)).shortage(deployable)


def _fits(cluster: Cluster, deployable: Deployable) -> bool:
    return isinstance(planner.plan(cluster, replace(deployable, cached={})), Plan)


def _devices(nodes: Iterable[Node]) -> Iterator[tuple[Node, Device]]:
    return ((node, device) for node in nodes for device in node.devices)


def _other_than(
    usable: Cluster, known: Cluster, cluster: Cluster
) -> Iterator[tuple[str, Node | None]]:
    """Nodes that shall be others than in `usable`: as known, with the host cache of `cluster`."""
    for node_id, row in known.layout.row_of.items():
        before, empty, now = usable.by_row[row], known.by_row[row], cluster.get(node_id)
        if now is None or empty is None:
            if before is not None:
                yield node_id, None
        elif before is None or before.cache_bytes != now.cache_bytes:
            yield node_id, replace(empty, cache_bytes=now.cache_bytes)


def _type_shortage(deployable: Deployable) -> str:
    return (
        f"model {deployable.model.name} is bfloat16, which none of the devices computes; register "
        "a float16 checkpoint of it, or add GPUs of compute capability 8.0 and more"
    )


def _memory_shortage(deployable: Deployable, sizes_bytes: Sequence[int]) -> str:
    """`sizes_bytes`: of the devices that compute the model's type."""
    model, weight_bytes = deployable.model, deployable.summary.weight_bytes
    kv_bytes = kv_budget_bytes(model, deployable.summary)
    largest = nlargest(model.max_pipeline_size, sizes_bytes)
    together = f" and the {len(largest)} largest {sum(largest)} together" if largest[1:] else ""
    return (
        f"model {model.name} needs {weight_bytes + kv_bytes} bytes of device memory "
        f"(weights {weight_bytes}, KV cache {kv_bytes}) on at most {model.max_pipeline_size} "
        f"devices, the largest has {largest[0]}{together}; lower kv_cache_bytes or "
        "max_context_tokens, or add larger devices"
    )


def _cache_shortage(deployable: Deployable, largest_bytes: int) -> str:
    model = deployable.model
    return (
        f"model {model.name} needs {files_bytes(deployable.summary)} bytes of host cache "
        f"(its weights) on at most {model.max_pipeline_size} nodes, the largest host cache has "
        f"{largest_bytes}; raise max_pipeline_size, or add nodes or larger host caches"
    )
