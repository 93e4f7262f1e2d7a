"""The engine's options and requests, for every process that takes part."""

import torch

from libs.common.sampling import SamplingParameters
from services.worker.engine.engine import StageEngine
from services.worker.engine.options import EngineOptions
from services.worker.engine_port import Request

DTYPE = torch.bfloat16
MAX_RUNNING, MAX_CONTEXT = 16, 1024
KV_TOKENS = MAX_RUNNING * 256
PACKED_BYTES = 2**30
PROMPT_TOKENS = 32


def options() -> EngineOptions:
    return EngineOptions(
        dtype=DTYPE,
        device=torch.device("cpu"),
        kv_bytes=0,
        kv_tokens=KV_TOKENS,
        max_running=MAX_RUNNING,
        max_context_tokens=MAX_CONTEXT,
        eos_token_ids=frozenset(),
        packed_bytes=PACKED_BYTES,
    )


def warmed(engine: StageEngine, *, is_packed: bool) -> StageEngine:
    """All weights read once, and packed if so wanted."""
    for _ in engine.load_units():
        continue
    engine.add_request(request(0, num_tokens=2))
    engine.step()  # only now it knows of the request
    while not engine.is_idle:
        engine.step()
    while is_packed and engine.optimize_step():
        continue
    return engine


def request(
    seed: int, *, num_tokens: int, num_prompt_tokens: int = PROMPT_TOKENS, vocab_size: int = 49_152
) -> Request:
    """Greedy, of exactly so many tokens, with a random prompt."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(10, vocab_size, (num_prompt_tokens,), generator=generator).tolist()
    sampling = SamplingParameters(num_tokens, seed=seed, temperature=0.0, ignore_eos=True)
    return Request(f"r{seed}", 1, tuple(ids), sampling)
