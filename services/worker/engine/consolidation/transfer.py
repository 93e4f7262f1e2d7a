"""Whether the keys and values of running sequences are moved, or computed again. Pure.

A move takes what its bytes take on the link, and a round through all stages at its beginning and at
its end. Computing them again takes what prompts of that length take, and every running request
waits for all of it; while keys and values move the pipeline goes on, so that time weighs less.
"""

from collections.abc import Iterable
from math import inf
from typing import Final

from services.worker.engine.scheduling.sequence import Sequence
from services.worker.engine_port import CopyPlan, KvTransfer

USUAL_BYTES_PER_S: Final = 1_250_000_000  # of a link of which nothing is known: 10 Gbit/s
ROUND_S: Final = 0.05  # through all stages
SERVING_WEIGHT: Final = 0.1  # of a second in which the pipeline goes on: it decodes more slowly


def plan_transfer(
    running: Iterable[Sequence],
    *,
    bytes_per_token: int,
    link_bytes_per_s: int,
    prefill_s_per_token: float | None,
    transfer: KvTransfer | None = None,
) -> CopyPlan:
    """`bytes_per_token`: of keys and values on the other stages. `prefill_s_per_token`: None where
    nobody has measured it. `transfer`: None to take whichever costs running requests less time."""
    lengths = [sequence.num_launched for sequence in running]
    num_tokens, num_bytes = sum(lengths), sum(lengths) * bytes_per_token
    copy_s = num_bytes / (link_bytes_per_s or USUAL_BYTES_PER_S)
    recompute_s = inf if prefill_s_per_token is None else num_tokens * prefill_s_per_token
    if transfer is None:
        is_dearer = 2 * ROUND_S + SERVING_WEIGHT * copy_s > recompute_s
        transfer = KvTransfer.RECOMPUTE if is_dearer else KvTransfer.MOVE
    move_s = 2 * ROUND_S + copy_s
    return CopyPlan(transfer, len(lengths), num_tokens, num_bytes, move_s, recompute_s)
