"""What the planner needs to know of a model again and again, worked out once. Pure."""

from dataclasses import dataclass, field

from libs.common.bus.messages import UnitSummary
from services.scheduler.policy.cluster import Deployable
from services.scheduler.policy.nodes.lazy import cached_property
from services.scheduler.policy.planning.memory import file_bytes, full_bytes, kv_budget_bytes
from services.scheduler.policy.planning.split import Weights

MAX_STAGES = 8


@dataclass(frozen=True)
class ModelShape:
    deployable: Deployable
    max_stages: int = field(default=MAX_STAGES)

    @cached_property
    def needed_bytes(self) -> int:
        """Weights and KV cache of the whole model."""
        return full_bytes(self.deployable.model, self.deployable.summary)

    @cached_property
    def num_stages(self) -> int:
        """At most; stage 0 may do without layers, the others need one each."""
        of_model = self.deployable.model.max_pipeline_size
        return min(of_model, self.max_stages, self.deployable.summary.num_layers + 1)

    @property
    def min_stages(self) -> int:
        """Wanted, where there are nodes for so many."""
        return min(self.deployable.model.min_pipeline_size, self.num_stages)

    @cached_property
    def layers(self) -> list[UnitSummary]:
        found = [unit for unit in self.deployable.summary.units if unit.layer is not None]
        return sorted(found, key=lambda unit: unit.layer or 0)

    @cached_property
    def ends(self) -> list[UnitSummary]:
        """Embedding, final norm and head."""
        return [unit for unit in self.deployable.summary.units if unit.layer is None]

    @cached_property
    def weights(self) -> Weights:
        model, summary = self.deployable.model, self.deployable.summary
        return Weights(
            layer_bytes=[unit.size_bytes for unit in self.layers],
            end_bytes=sum(unit.size_bytes for unit in self.ends),
            kv_bytes=kv_budget_bytes(model, summary),
        )

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of its units, by digest."""
        return {unit.digest: unit.size_bytes for unit in self.deployable.summary.units}

    @cached_property
    def units_bytes(self) -> int:
        """Of all of them."""
        return sum(self.sizes.values())

    @cached_property
    def file_sizes(self) -> dict[str, int]:
        """What its units take of a host cache, by digest."""
        return {unit.digest: file_bytes(unit) for unit in self.deployable.summary.units}

    @cached_property
    def files_bytes(self) -> int:
        """What the whole model takes of a host cache."""
        return sum(self.file_sizes[unit.digest] for unit in self.deployable.summary.units)

    def cached_bytes(self, node_id: str) -> int:
        """Of its weights, in the node's host cache."""
        held, sizes = self.deployable.cached.get(node_id), self.sizes
        return sum(sizes[digest] for digest in held) if held else 0
