"""The scenario of a replayed trace: models and nodes as they were, constants as calibrated.

Pure.
"""

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.fidelity.constants import Constants, KindSpeed
from benchmarks.replay.models import ReplayModel
from benchmarks.replay.record import ModelFacts
from deploy.local.nodes import NodeOptions

_GIGA = 1e9
_DEVICE = "cpu"
_COPY_GB_PER_S = 1000.0  # a processor's memory is the host's: nothing is copied


def scenario_text(
    models: Sequence[ReplayModel],
    facts: Mapping[str, ModelFacts],
    nodes: Sequence[NodeOptions],
    constants: Constants,
    standbys: int,
) -> str:
    """As toml."""
    return "\n".join(
        [
            'description = "A trace that was replayed on real processes"',
            "duration_s = 3600",
            "drain_s = 180",
            "deadline_s = 600",
            'compute_sharing = "weights"',
            *_table("network", {"hop_s": constants.hop_s, "prompt_hop_s": constants.prompt_hop_s}),
            *_table(
                "leader",
                {
                    "round_s": constants.round_s,
                    "pause_s": constants.pause_s,
                    "message_s": constants.message_s,
                },
            ),
            *_nodes(nodes, constants, standbys),
            *(line for m in models for line in _model(m, facts[m.name])),
            *(line for name, own in constants.speeds.items() for line in _speed(name, own)),
            *_table("traffic", {"rate_per_s": 1.0}),
            "",
        ]
    )


def _nodes(nodes: Sequence[NodeOptions], constants: Constants, standbys: int) -> Iterator[str]:
    """They are alike."""
    node = nodes[0]
    start = {
        "memory_gb": node.device_memory_bytes / _GIGA,
        "launch_s": constants.launch_s,
        "standby_launch_s": constants.standby_launch_s,
        "register_s": constants.register_s,
        "load_gb_per_s": _COPY_GB_PER_S,
        "tail_s": constants.tail_s,
        "stop_s": constants.stop_s,
        "prefills_while_loading": True,
    }
    yield from _table(f"devices.{_DEVICE}", start)
    yield from _table(
        "nodes.node",
        {
            "count": len(nodes),
            "device": _DEVICE,
            "num_devices": 1,
            "nic_gbps": 8 * constants.nic_bytes_per_s / _GIGA,
            "host_cache_gb": node.host_cache_bytes / _GIGA,
            "num_standbys": standbys,
            "standby_refill_s": constants.standby_refill_s,
            "refills_when_quiet": True,
        },
    )


def _model(model: ReplayModel, facts: ModelFacts) -> Iterator[str]:
    settings = model.settings
    yield from _table(
        f"models.{model.name}",
        {
            "count": 1,
            "architecture": model.kind.name,
            "weights_gb": facts.weight_bytes / _GIGA,
            "ends_gb": facts.ends_bytes / _GIGA,
            "kv_gb": model.kind.kv_bytes / _GIGA,
            "num_layers": facts.num_layers,
            **{
                key: settings[key]
                for key in (
                    *("max_context_tokens", "max_slots", "min_pipeline_size"),
                    *("max_pipeline_size", "keep_alive_s"),
                )
            },
            "max_endpoints": 1,
            "max_queue": 100,
            "ttft_slo_s": model.ttft_slo_ms / 1000,
            "tpot_slo_s": model.tpot_slo_ms / 1000,
        },
    )
    for lengths in ("prompt", "output"):  # the trace has its own
        yield f"{lengths} = {{median_tokens = 16, max_tokens = 64}}"


def _speed(name: str, speed: KindSpeed) -> Iterator[str]:
    points = ", ".join(f"[{batch}, {step_s!r}]" for batch, step_s in speed.decode_step_s.items())
    yield from _table(
        f"speeds.{_DEVICE}.{name}", {"prefill_s_per_token": speed.prefill_s_per_token}
    )
    yield f"decode_step_s = [{points}]"


def _table(name: str, values: Mapping[str, object]) -> Iterator[str]:
    yield ""
    yield f"[{name}]"
    for key, value in values.items():
        yield f"{key} = {_toml(value)}"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)
