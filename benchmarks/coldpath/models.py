"""The models that are started: the demo's, a tiny one, and random weights of given sizes."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.coldpath.starts import WARM_UP
from benchmarks.coldpath.variants import DEMO_MODEL, GROWTH_BYTES
from deploy.local.demo_model import ensure_demo_model

SEED = 20260
_HIDDEN_SIZE = 1024
_LAYER_BYTES = 17_830_000  # of a random model, in bfloat16


def sources(folder: Path, names: Iterable[str]) -> Mapping[str, Path]:
    """Paths of these models beneath `folder`, made or fetched where they are missing."""
    wanted = {WARM_UP, *names}
    return {name: _source(folder, name) for name in sorted(wanted)}


def _source(folder: Path, name: str) -> Path:
    if name == DEMO_MODEL:
        return ensure_demo_model(folder)
    path = folder / name
    if not (path / "model.safetensors").exists():
        _make(path, name)
    return path


def _make(path: Path, name: str) -> None:
    import torch  # late: most calls find what an earlier one made

    from tests.support.checkpoints import make_tiny_llama

    if name == WARM_UP:
        make_tiny_llama(path, seed=SEED, num_layers=6)
        return
    num_layers = max(1, round(GROWTH_BYTES[name] / _LAYER_BYTES))
    make_tiny_llama(
        path, seed=SEED, num_layers=num_layers, hidden_size=_HIDDEN_SIZE, dtype=torch.bfloat16
    )
