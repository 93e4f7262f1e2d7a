"""The models that a replayed trace asks for: twelve small random ones and the demo's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.demo_model import MODEL_NAME, TARGETS, ensure_demo_model

SEED = 20_261
WARM_UP = "warm-up"  # what it starts is not what is measured
KEEP_ALIVE_S = 12.0
MAX_CONTEXT_TOKENS = 1024
MAX_SLOTS = 8
_MIB = 2**20


@dataclass(frozen=True)
class Kind:
    """Models whose weights differ in their values alone; None: the demo's."""

    name: str
    num_layers: int
    hidden_size: int | None
    kv_bytes: int


TINY = Kind("tiny", 4, 256, 12 * _MIB)  # 10 MB: most of its start is a launch, once it is cached
SMALL = Kind("small", 6, 512, 32 * _MIB)  # 57 MB: most of its start is a fetch
DEMO = Kind("demo", 30, None, 96 * _MIB)


@dataclass(frozen=True)
class ReplayModel:
    """`num_stages`: always so many; None: as its targets need."""

    name: str
    kind: Kind
    ttft_slo_ms: int
    tpot_slo_ms: int
    num_stages: int | None = None

    @property
    def settings(self) -> Mapping[str, object]:
        """As the API takes them."""
        return {
            "slo": {"ttft_ms": self.ttft_slo_ms, "tpot_ms": self.tpot_slo_ms},
            "keep_alive_s": KEEP_ALIVE_S,
            "min_pipeline_size": self.num_stages or 1,
            "max_pipeline_size": self.num_stages or 4,
            "max_slots": MAX_SLOTS,
            "max_context_tokens": MAX_CONTEXT_TOKENS,
            "kv_cache_bytes": self.kind.kv_bytes,
        }


def _tiny(number: int, num_stages: int | None = None) -> ReplayModel:
    return ReplayModel(f"tiny-{number}", TINY, 1_500, 100, num_stages)


def _small(number: int, num_stages: int | None = None) -> ReplayModel:
    return ReplayModel(f"small-{number}", SMALL, 3_500, 100, num_stages)


# The one that is asked for most comes first. A small model that one node fetches alone misses its
# target, and two keep it; the demo's needs all nodes until they hold it.
MODELS = (
    _tiny(0),
    _small(0),
    ReplayModel(MODEL_NAME, DEMO, TARGETS["ttft_ms"], TARGETS["tpot_ms"]),
    _small(1, num_stages=2),
    _tiny(1),
    _small(2),
    _tiny(2, num_stages=2),
    _small(3, num_stages=2),
    _tiny(3),
    _small(4),
    _tiny(4, num_stages=3),
    _small(5, num_stages=4),
    _tiny(5),
)


def sources(folder: Path, models: Iterable[ReplayModel]) -> Mapping[str, Path]:
    """Paths of these and of the one to warm up with, made or fetched where they are missing."""
    found = {WARM_UP: _random(folder / WARM_UP, TINY, seed=SEED - 1)}
    for number, model in enumerate(models):
        if model.kind is DEMO:
            found[model.name] = ensure_demo_model(folder)
        else:
            found[model.name] = _random(folder / model.name, model.kind, seed=SEED + number)
    return found


def _random(path: Path, kind: Kind, seed: int) -> Path:
    """It knows no end of an answer."""
    from tests.support.checkpoints import make_tiny_llama  # late: it imports torch

    assert kind.hidden_size is not None, "the demo's model is not made"
    path = path.with_name(f"{path.name}-{kind.num_layers}x{kind.hidden_size}")
    if not (path / "tokenizer_config.json").exists():
        make_tiny_llama(
            path,
            seed=seed,
            num_layers=kind.num_layers,
            hidden_size=kind.hidden_size,
            is_endless=True,
        )
    return path
