"""How workers share a GPU: by CUDA's Multi-Process Service, where it runs. Pure but for `find_mps`.

Its percentage is a ceiling on the threads that a process may have at work, and stays as it was when
the process began to use the GPU. So a worker gets one only where others are there already. (What it
may take of the memory, torch is told by `services/worker/runtime/cuda/memory.py`, always.)
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

PIPE_DIRECTORY: Final = "CUDA_MPS_PIPE_DIRECTORY"
PERCENTAGE: Final = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
DEFAULT_DIRECTORY: Final = "/tmp/nvidia-mps"
CONTROL_PIPE: Final = "control"  # made by the service's daemon


def find_mps(environ: Mapping[str, str]) -> Path | None:
    """The directory of its pipes, as CUDA looks for it; None where it does not run."""
    directory = Path(environ.get(PIPE_DIRECTORY) or DEFAULT_DIRECTORY)
    return directory if (directory / CONTROL_PIPE).exists() else None


def mps_environment(
    pipes: Path, device_bytes: int, neighbour_bytes: Sequence[int], cap_of: int | None = None
) -> dict[str, str]:
    """What a worker's process must find in its environment.

    Beside neighbours its ceiling is its part of all the memory that they and it have reserved.
    `cap_of`: the device's memory, of which its part is a ceiling also for a worker alone.
    """
    found = {PIPE_DIRECTORY: str(pipes)}
    whole = device_bytes + sum(neighbour_bytes) if cap_of is None else cap_of
    percentage = min(100, max(1, math.ceil(100 * device_bytes / whole)))
    return found if percentage == 100 else {**found, PERCENTAGE: str(percentage)}
