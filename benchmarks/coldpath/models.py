"""The models that are started: the demo's, a tiny one, and random weights of given sizes."""

from collections.abc import Iterable, Mapping
from math import sqrt
from pathlib import Path

from benchmarks.coldpath.starts import WARM_UP
from benchmarks.coldpath.variants import DEMO_MODEL, RANDOM_MODELS, RandomModel
from deploy.local.demo_model import ensure_demo_model

SEED = 20260
NUM_LAYERS = 24  # stages of like size for 1, 2, 3, 4, 6 and 8 of them
_HEAD_SIZE = 64
_VOCABULARY = 512  # as good as nothing beside the layers
_BF16_BYTES = 2


def sources(folder: Path, names: Iterable[str]) -> Mapping[str, Path]:
    """Paths of these models beneath `folder`, made or fetched where they are missing."""
    wanted = {WARM_UP, *names}
    return {name: _source(folder, name) for name in sorted(wanted)}


def _source(folder: Path, name: str) -> Path:
    if name == DEMO_MODEL:
        return ensure_demo_model(folder)
    if name == WARM_UP:
        return _tiny(folder / name)
    return _random(folder / name, name, RANDOM_MODELS[name])


def _tiny(path: Path) -> Path:
    from tests.support.checkpoints import make_tiny_llama  # late: it imports torch

    if not (path / "model.safetensors").exists():
        make_tiny_llama(path, seed=SEED, num_layers=6)
    return path


def _random(path: Path, name: str, model: RandomModel) -> Path:
    """Wider for more bytes: 12 * hidden^2 weights in a layer, as Llama's shapes have about."""
    from benchmarks.coldgpu.checkpoint import Shape, ensure_checkpoint  # late: it imports torch

    layer_weights = model.num_bytes / NUM_LAYERS / _BF16_BYTES
    num_heads = max(1, round(sqrt(layer_weights / 12) / _HEAD_SIZE))
    hidden = num_heads * _HEAD_SIZE
    inner = round((layer_weights - 4 * hidden**2) / (3 * hidden))
    shape = Shape(name, NUM_LAYERS, hidden, inner, num_heads, _VOCABULARY, seed=SEED + model.seed)
    return ensure_checkpoint(path, shape)
