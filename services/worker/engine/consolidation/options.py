"""What an entry stage is told of the worker that it shall become."""

from dataclasses import dataclass
from typing import Final

from services.worker.engine_port import KvTransfer

BUSY_SHARE: Final = 0.08  # of the time of an engine or a stage that is busy, for loading


@dataclass(frozen=True)
class ConsolidationOptions:
    generation: int  # of the endpoint, that it becomes
    packed_bytes: int = 0  # for packed copies of all weights, as EngineOptions has them
    link_bytes_per_s: int = 0  # at which keys and values come at most; 0: not known
    transfer: KvTransfer | None = None  # None: whichever is predicted to cost less
    busy_share: float = BUSY_SHARE
    freeze_timeout_s: float = 0.5  # for the switch; then the pipeline goes on
    retry_s: float = 1.0  # until a switch that took too long is tried again; doubles each time
    open_timeout_s: float = 5.0  # for all stages to hear where keys and values go
    copy_timeout_s: float = 60.0  # for so few keys and values to be left that it can be tried
