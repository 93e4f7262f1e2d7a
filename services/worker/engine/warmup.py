"""A forward pass that nobody needs, so that the first one that somebody waits for finds a warm GPU.

A kernel is loaded when it is launched for the first time, and so are the libraries behind it: a
fifth of a second for each stage, one stage after the other. Here they are launched on weights that
may not have arrived; what comes out is worth nothing and is dropped.
"""

from dataclasses import replace

import torch

from libs.common.modelconfig.config import ModelConfig
from services.worker.engine.draw import Draw
from services.worker.engine.executor import Executor
from services.worker.engine.microbatch import MicroBatch, Piece
from services.worker.engine.options import EngineOptions, step_tokens
from services.worker.engine.place import Place
from services.worker.engine.request import Sampling
from services.worker.engine.sampler import sample
from services.worker.engine.weights import WeightSource

_GREEDY = Sampling(max_tokens=1, seed=0, temperature=0.0)
_DRAWN = Sampling(max_tokens=1, seed=0, top_p=0.9)


@torch.inference_mode()
def warm_up(
    config: ModelConfig, unfilled: WeightSource, options: EngineOptions, place: Place
) -> None:
    """A full prompt chunk and one decode, through as few layers as use every kernel.

    `unfilled` has all tensors at once, whatever is in them. Stage, cache and results of this are
    its own: nothing that is computed from such weights is left. Before any real token, because it
    takes the device. Raises RuntimeError where the device cannot.
    """
    num_tokens = min(
        step_tokens(options), options.max_context_tokens, config.max_context_tokens - 1
    )
    place = replace(place, layers=_sample_of(place.layers, config.attention.windows))
    executor = Executor(config, unfilled, replace(options, kv_tokens=max(2, num_tokens)), place)
    for length in (num_tokens, 1):
        batch = MicroBatch(0, (), (Piece(0, 0, length, True),))
        hidden = executor.run(batch, _inputs(executor, batch, config, options))
        if place.is_entry:
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


def _inputs(
    executor: Executor, batch: MicroBatch, config: ModelConfig, options: EngineOptions
) -> torch.Tensor:
    if executor.place.is_entry:
        return executor.embed([0] * batch.num_tokens, batch.positions)
    shape = (batch.num_tokens, config.hidden_size)
    return torch.zeros(shape, dtype=options.dtype, device=options.device)


def _sample(logits: torch.Tensor) -> None:
    """Of zeros: a row that is not finite is not drawn from."""
    flat = torch.zeros_like(logits).expand(2, -1)
    sample(flat, [Draw(_GREEDY, 0), Draw(_DRAWN, 0)])
