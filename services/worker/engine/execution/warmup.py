"""Warms a GPU up by a forward pass whose result is dropped.

A kernel is loaded when it is launched for the first time, and so are the libraries behind it: a
fifth of a second for each stage, one stage after the other. Here they are launched on weights that
may not have arrived; what comes out is worth nothing and is dropped.
"""

from dataclasses import replace

import torch

from libs.common.modelconfig.config import ModelConfig
from libs.common.sampling import SamplingParameters
from services.worker.engine.attention.kv_cache import KvCache
from services.worker.engine.execution.executor import Executor
from services.worker.engine.execution.microbatch import MicroBatch, Piece
from services.worker.engine.model.place import Place
from services.worker.engine.model.weights import WeightSource
from services.worker.engine.options import EngineOptions, step_tokens
from services.worker.engine.sampling.draw import Draw
from services.worker.engine.sampling.sampler import sample

_GREEDY = SamplingParameters(max_tokens=1, seed=0, temperature=0.0)
_DRAWN = SamplingParameters(max_tokens=1, seed=0, top_p=0.9)


@torch.inference_mode()
def warm_up(
    config: ModelConfig,
    unfilled: WeightSource,
    options: EngineOptions,
    place: Place,
    cache: KvCache,
) -> None:
    """A full prompt chunk and one decode, through as few layers as use every kernel.

    `unfilled` has all tensors at once, whatever is in them. `cache` is the one that the stage will
    use: a second one was not planned for. Before any real token, because it takes the device and
    the cache. Raises RuntimeError where the device cannot.
    """
    most_tokens = min(options.max_context_tokens, config.max_context_tokens - 1, cache.num_slots)
    num_tokens = min(step_tokens(options), most_tokens)
    place = replace(place, layers=_sample_of(place.layers, config.attention.windows))
    lent = cache.part(len(place.layers), num_tokens)
    executor = Executor.build(config, unfilled, replace(options, graphs=None), place, lent)
    try:
        for length in (num_tokens, 1):
            _run(executor, length, options)
    finally:  # a kernel may weigh a slot by nought, and what is left there need not be a number
        lent.clear()


def _run(executor: Executor, length: int, options: EngineOptions) -> None:
    batch = MicroBatch(0, (), (Piece(0, 0, length, True),))
    hidden = executor.run(batch, _inputs(executor, batch, options))
    if executor.place.is_entry:
        _sample(executor.logits(hidden[-1:]))
    else:
        hidden.cpu()  # as it leaves the stage


def _sample_of(layers: range, windows: tuple[int | None, ...]) -> range:
    """As many of the first layers as there are kinds of attention in all of them."""
    kinds = {windows[index] for index in layers}
    length = 0
    while {windows[index] for index in layers[:length]} != kinds:
        length += 1
    return layers[:length]


def _inputs(executor: Executor, batch: MicroBatch, options: EngineOptions) -> torch.Tensor:
    if executor.place.is_entry:
        return executor.embed([0] * batch.num_tokens, batch.positions)
    shape = (batch.num_tokens, executor.hidden_size)
    return torch.zeros(shape, dtype=options.dtype, device=options.device)


def _sample(logits: torch.Tensor) -> None:
    """Of zeros: a row that is not finite is not drawn from."""
    flat = torch.zeros_like(logits).expand(2, -1)
    sample(flat, [Draw(_GREEDY, 0), Draw(_DRAWN, 0)])
