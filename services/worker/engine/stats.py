"""What an engine is doing, for heartbeats and metrics."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineStats:
    num_running: int = 0
    num_waiting: int = 0
    kv_used_bytes: int = 0  # of regions that sequences hold
    kv_capacity_bytes: int = 0
    num_steps: int = 0  # that ran tokens, since the start
    num_tokens_computed: int = 0  # prompt and output tokens, since the start
    num_tokens_generated: int = 0  # since the start
    mean_step_s: float = 0.0  # of steps that ran tokens, the latest ones weigh most
