"""vLLM's engine in a process of its own, run by its own interpreter; nothing of ours is imported.

A line of JSON in, `{"prompts": [[id, …], …], "num_tokens": n}`, one out: every step's time and how
many sequences decoded in it, `{"steps": [[seconds, num_decoding], …]}`. The first line out is `{}`:
ready. Called with a checkpoint's folder and the most sequences that come at once.
"""

import json
import os
import sys
import time
from typing import Any, TextIO

MAX_CONTEXT, KV_CACHE_BYTES = 1024, 2**28


def main() -> None:
    answers = _private_stdout()
    engine = _engine(sys.argv[1], int(sys.argv[2]))
    print(json.dumps({}), file=answers, flush=True)
    for number, line in enumerate(sys.stdin):
        asked = json.loads(line)
        steps = _steps(engine, number, asked["prompts"], asked["num_tokens"])
        print(json.dumps({"steps": steps}), file=answers, flush=True)


def _private_stdout() -> TextIO:
    """What vLLM prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _engine(checkpoint: str, max_sequences: int) -> Any:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    arguments = EngineArgs(
        model=checkpoint,
        dtype="bfloat16",
        enforce_eager=True,
        max_model_len=MAX_CONTEXT,
        max_num_seqs=max_sequences,
        kv_cache_memory_bytes=KV_CACHE_BYTES,
        enable_prefix_caching=False,  # the same prompts come again and again
        distributed_executor_backend="uni",
        skip_tokenizer_init=True,
        disable_log_stats=True,
    )
    return LLMEngine.from_vllm_config(arguments.create_engine_config())


def _steps(
    engine: Any, number: int, prompts: list[list[int]], num_tokens: int
) -> list[tuple[float, int]]:
    """Greedy, of exactly so many tokens each."""
    from vllm import SamplingParams
    from vllm.inputs import TokensPrompt

    sampling = SamplingParams(
        temperature=0.0, max_tokens=num_tokens, ignore_eos=True, detokenize=False
    )
    for index, ids in enumerate(prompts):
        engine.add_request(f"{number}-{index}", TokensPrompt(prompt_token_ids=ids), sampling)
    steps = []
    while engine.has_unfinished_requests():
        started_s = time.perf_counter()
        outputs = engine.step()
        step_s = time.perf_counter() - started_s
        steps.append((step_s, sum(len(o.outputs[0].token_ids) > 1 for o in outputs)))
    return steps


if __name__ == "__main__":
    main()
