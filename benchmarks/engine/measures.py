"""One sample of each figure; who repeats and compares them is `__main__.py`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.engine.engines import request
from services.worker.engine.engine import StageEngine

DECODED_TOKENS = 24
PREFILL_TOKENS = 512
TIMEOUT_S = 60.0


def decode_step_s(engine: StageEngine, batch_size: int) -> float:
    """The median time of a step in which every one of so many sequences decodes."""
    return median(_decode_steps(engine, batch_size, DECODED_TOKENS))


def token_interval_s(engine: StageEngine) -> float:
    """Between the tokens of one sequence, over its whole output; of a pipeline too."""
    engine.add_request(request(1, num_tokens=DECODED_TOKENS))
    arrivals: list[float] = []
    deadline_s = time.monotonic() + TIMEOUT_S
    while len(arrivals) < DECODED_TOKENS:
        assert time.monotonic() < deadline_s, f"{len(arrivals)} tokens within {TIMEOUT_S} s"
        arrivals += [time.perf_counter() for _ in engine.step()]
    return (arrivals[-1] - arrivals[0]) / (len(arrivals) - 1)


def prefill_s(engine: StageEngine) -> float:
    """From a prompt of PREFILL_TOKENS to its first token."""
    engine.add_request(request(2, num_tokens=1, num_prompt_tokens=PREFILL_TOKENS))
    started_s = time.perf_counter()
    while not engine.step():
        continue
    return time.perf_counter() - started_s


def reference_interval_s(model: Any) -> float:
    """Between the tokens of transformers' `generate`: its time for many less that for one."""
    prompt = torch.tensor([request(1, num_tokens=1).prompt_ids])
    return (_generate_s(model, prompt, DECODED_TOKENS) - _generate_s(model, prompt, 1)) / (
        DECODED_TOKENS - 1
    )


@torch.inference_mode()
def _generate_s(model: Any, prompt: torch.Tensor, num_tokens: int) -> float:
    started_s = time.perf_counter()
    model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=num_tokens,
        min_new_tokens=num_tokens,
        do_sample=False,
    )
    return time.perf_counter() - started_s


def scheduling_s(engine: StageEngine, batch_size: int) -> float:
    """Of a decode step, what is neither in the model nor in choosing the tokens.

    Plans, bookkeeping, outputs; choosing tokens is counted here, but for the operations on logits.
    """
    with _timed(engine._executor, "embed", "run", "logits") as model_s:  # no other way to see it
        steps_s = _decode_steps(engine, batch_size, DECODED_TOKENS, model_s.append_mark)
    return median(
        step_s - inside_s for step_s, inside_s in zip(steps_s, model_s.per_mark, strict=True)
    )


def step_overhead_s(engine: StageEngine, batch_size: int) -> float:
    """Of a decode step, what no tensor operation takes: scheduling and Python between operations.

    Under the profiler, whose own cost for each operation is counted too: an upper bound.
    """
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        steps_s = _decode_steps(engine, batch_size, DECODED_TOKENS // 4, profiler_is_on=True)
    outermost = (event for event in profiler.events() if event.cpu_parent is None)
    operations_s = sum(event.time_range.elapsed_us() for event in outermost) / 1e6
    return (sum(steps_s) - operations_s) / len(steps_s)


class _ModelTime:
    def __init__(self) -> None:
        self.total_s = 0.0
        self.per_mark: list[float] = []
        self._marked_s = 0.0

    def append_mark(self, is_counted: bool) -> None:
        if is_counted:
            self.per_mark.append(self.total_s - self._marked_s)
        self._marked_s = self.total_s


@contextmanager
def _timed(owner: Any, *names: str) -> Iterator[_ModelTime]:
    """Add up the time that the owner's methods take."""
    spent = _ModelTime()

    def wrapped(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            started_s = time.perf_counter()
            result = method(*arguments)
            spent.total_s += time.perf_counter() - started_s
            return result

        return call

    for name in names:
        setattr(owner, name, wrapped(getattr(owner, name)))
    try:
        yield spent
    finally:
        for name in names:
            delattr(owner, name)


def _decode_steps(
    engine: StageEngine,
    batch_size: int,
    num_tokens: int,
    after: Callable[[bool], None] = lambda is_counted: None,
    *,
    profiler_is_on: bool = False,
) -> list[float]:
    """Times of the steps in which all decode; with the profiler on, of all steps."""
    for seed in range(batch_size):
        engine.add_request(request(seed, num_tokens=num_tokens))
    steps_s: list[float] = []
    while not engine.is_idle or not steps_s:
        started_s = time.perf_counter()
        outputs = engine.step()
        step_s = time.perf_counter() - started_s
        is_decode = len(outputs) == batch_size and all(o.start_index > 0 for o in outputs)
        if is_decode or profiler_is_on:
            steps_s.append(step_s)
        after(is_decode)
    return steps_s
