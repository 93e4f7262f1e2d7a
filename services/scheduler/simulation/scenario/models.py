"""What a scenario says of models: groups of models that are alike."""

from dataclasses import dataclass

from services.scheduler.simulation.scenario.section import Section


@dataclass(frozen=True)
class Lengths:
    """Tokens of a prompt or an answer: lognormal, never above `max_tokens`, at least one."""

    median_tokens: float
    sigma: float  # of the logarithm; 0: always the median
    max_tokens: int


@dataclass(frozen=True)
class ModelGroup:
    name: str
    count: int
    architecture: str  # which speeds are its own
    weight_bytes: int
    ends_bytes: int  # of the weights: embedding and head
    kv_bytes: int
    num_layers: int
    max_context_tokens: int
    max_slots: int
    min_pipeline_size: int
    max_pipeline_size: int
    full_memory_workers: int | None  # of a pipeline; None: as planned
    max_endpoints: int
    max_queue: int
    keep_alive_s: float
    is_keep_alive_auto: bool  # learnt, and `keep_alive_s` says nothing
    min_endpoints: int
    ttft_slo_s: float
    tpot_slo_s: float
    prompt: Lengths
    output: Lengths

    @property
    def full_bytes(self) -> int:
        return self.weight_bytes + self.kv_bytes


def read_models(section: Section) -> tuple[ModelGroup, ...]:
    found = []
    for name, own in section.sections():
        weight_bytes = own.bytes_of_gb("weights_gb")
        found.append(
            ModelGroup(
                name,
                count=own.integer("count", least=1),
                architecture=own.text("architecture"),
                weight_bytes=weight_bytes,
                ends_bytes=own.bytes_of_gb("ends_gb", 0.04 * weight_bytes / 1e9),
                kv_bytes=own.bytes_of_gb("kv_gb"),
                num_layers=own.integer("num_layers", 32, least=1),
                max_context_tokens=own.integer("max_context_tokens", 4096, least=1),
                max_slots=own.integer("max_slots", 8, least=1),
                min_pipeline_size=own.integer("min_pipeline_size", 1, least=1),
                max_pipeline_size=own.integer("max_pipeline_size", 4, least=1),
                full_memory_workers=own.integer("full_memory_workers", 0) or None,
                max_endpoints=own.integer("max_endpoints", 8, least=1),
                max_queue=own.integer("max_queue", 1_000, least=1),
                keep_alive_s=own.number("keep_alive_s"),
                is_keep_alive_auto=own.flag("is_keep_alive_auto", False),
                min_endpoints=own.integer("min_endpoints", 0),
                ttft_slo_s=own.positive("ttft_slo_s"),
                tpot_slo_s=own.positive("tpot_slo_s"),
                prompt=_lengths(own.section("prompt")),
                output=_lengths(own.section("output")),
            )
        )
        own.finish()
        _check(own, found[-1])
    return tuple(found)


def _check(section: Section, group: ModelGroup) -> None:
    if group.weight_bytes == 0:
        raise section.error("weights_gb", "a number above 0")
    if group.ends_bytes > group.weight_bytes:
        raise section.error("ends_gb", f"at most weights_gb, {group.weight_bytes / 1e9:g}")
    if group.min_pipeline_size > group.max_pipeline_size:
        raise section.error("min_pipeline_size", f"at most {group.max_pipeline_size}, the maximum")


def _lengths(own: Section) -> Lengths:
    lengths = Lengths(
        own.positive("median_tokens"),
        own.number("sigma", 0.0),
        own.integer("max_tokens", least=1),
    )
    own.finish()
    return lengths
