"""Asks CUDA itself which GPUs it shows, and in which order.

In a process of its own: the driver keeps what it opens, and takes its environment from the first
call. With the agent's CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER, whatever these mean to CUDA.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

from services.worker.agent.devices.nvml import DRIVER_HINT
from services.worker.agent.processes.launcher import inherited
from services.worker.errors import DeviceError

MODULE: Final = "services.worker.runtime.cuda.visible"
TIMEOUT_S: Final = 60.0  # a driver that nobody used for a while is loaded first
_COUNTING: Final = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")


def visible_uuids(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Bare UUIDs of GPUs and MIG instances. Raises DeviceError."""
    counting = {key: environ[key] for key in _COUNTING if key in environ}
    try:
        asked = subprocess.run(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            env={**inherited(environ), **counting},
            text=True,
            check=True,
        )
    except subprocess.CalledProcessError as exc:
        said = (exc.stderr.strip().splitlines() or [f"code {exc.returncode}"])[-1]
        raise DeviceError(f"CUDA does not say which GPUs it shows: {said} ({DRIVER_HINT})") from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise DeviceError(f"CUDA does not say which GPUs it shows: {exc}") from exc
    return tuple(json.loads(asked.stdout))
