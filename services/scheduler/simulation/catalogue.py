"""The models of a scenario as the scheduler knows them: rows, and what manifests say.

There may be a hundred thousand of them: those are made that are asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from libs.common.bus.messages import ModelSummary, UnitSummary
from libs.common.states import ModelState
from services.scheduler.policy.cluster import Model
from services.scheduler.simulation.scenario.models import ModelGroup
from services.scheduler.simulation.workload.model_names import ModelNames

TENANT = "tenant"
_NORM_BYTES = 8_192
_MAX_KEPT = 8_192


@dataclass(frozen=True, eq=False)
class CatalogueModel:
    group: ModelGroup
    row: Model
    summary: ModelSummary

    @cached_property
    def unit_sizes(self) -> Sequence[int]:
        return tuple(unit.size_bytes for unit in self.summary.units)

    @cached_property
    def all_units(self) -> int:
        """As bits."""
        return (1 << len(self.summary.units)) - 1

    @cached_property
    def index_by_digest(self) -> Mapping[str, int]:
        return {unit.digest: index for index, unit in enumerate(self.summary.units)}

    @cached_property
    def size_by_digest(self) -> Mapping[str, int]:
        return {unit.digest: unit.size_bytes for unit in self.summary.units}

    def digests(self, units: int) -> frozenset[str]:
        """Of the units that these bits stand for."""
        return frozenset(
            unit.digest for index, unit in enumerate(self.summary.units) if units >> index & 1
        )

    def num_layers_of(self, digests: Sequence[str]) -> int:
        units = self.summary.units
        return sum(units[self.index_by_digest[digest]].layer is not None for digest in digests)


class ModelCatalogue:
    def __init__(self, names: ModelNames) -> None:
        self._names = names
        self.model = lru_cache(_MAX_KEPT)(self._model)

    def group_of(self, model_id: str) -> ModelGroup:
        place = self._names.place_of(model_id)
        assert place is not None, "ids are those of the scenario"
        return self._names.group_of(place)

    def pinned_ids(self) -> frozenset[str]:
        """Of models that shall always have an endpoint."""
        return frozenset(
            self._names.id_of(number)
            for group, first, last in self._names.ranges()
            if group.min_endpoints
            for number in range(first, last)
        )

    def _model(self, model_id: str) -> CatalogueModel:
        group = self.group_of(model_id)
        return CatalogueModel(group, _row(model_id, group), _summary(model_id, group))


def _row(model_id: str, group: ModelGroup) -> Model:
    return Model(
        id=model_id,
        tenant=TENANT,
        name=model_id,
        state=ModelState.READY,
        cause=None,
        keep_alive_s=group.keep_alive_s,
        is_keep_alive_auto=group.is_keep_alive_auto,
        min_endpoints=group.min_endpoints,
        min_pipeline_size=group.min_pipeline_size,
        max_pipeline_size=group.max_pipeline_size,
        full_memory_workers=group.full_memory_workers,
        slo_ttft_s=group.ttft_slo_s,
        slo_tpot_s=group.tpot_slo_s,
        max_queue=group.max_queue,
        max_slots=group.max_slots,
        max_endpoints=group.max_endpoints,
        max_context_tokens=group.max_context_tokens,
        kv_cache_bytes=group.kv_bytes,
        manifest_digest=model_id,
        num_failed_starts=0,
        backoff_until_s=None,
    )


def _summary(model_id: str, group: ModelGroup) -> ModelSummary:
    """Layers are equal; embedding and head are half of the rest each."""
    layer_bytes = (group.weight_bytes - group.ends_bytes) // group.num_layers
    ends_bytes = group.weight_bytes - layer_bytes * group.num_layers - _NORM_BYTES
    units = (
        _unit(model_id, "embedding", ends_bytes // 2),
        *(_unit(model_id, "layer", layer_bytes, number) for number in range(group.num_layers)),
        _unit(model_id, "final_norm", _NORM_BYTES),
        _unit(model_id, "lm_head", ends_bytes - ends_bytes // 2),
    )
    return ModelSummary.model_construct(
        architecture=group.architecture,
        dtype="F16",
        num_layers=group.num_layers,
        vocab_size=1,
        max_context_tokens=group.max_context_tokens,
        kv_bytes_per_token=max(1, group.kv_bytes // (group.max_slots * group.max_context_tokens)),
        weight_bytes=group.weight_bytes,
        eos_token_ids=(),
        bos_token_id=None,
        tokenizer_files={},
        units=units,
    )


def _unit(model_id: str, kind: str, size_bytes: int, layer: int | None = None) -> UnitSummary:
    name = kind if layer is None else f"{kind} {layer}"
    return UnitSummary.model_construct(
        kind=kind, layer=layer, digest=f"{model_id} {name}", size_bytes=size_bytes
    )
