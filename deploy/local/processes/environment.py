"""What a child process gets from our own environment: little, and by name."""

import os
from collections.abc import Mapping

_NAMES = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "OMP_NUM_THREADS"})
_PREFIXES = ("LC_", "OTEL_", "CUDA_", "NVIDIA_", "PYTHON")


def base_environment(source: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that say where we run, none that say what to connect to."""
    return {
        name: value
        for name, value in source.items()
        if name in _NAMES or name.startswith(_PREFIXES)
    }
