"""What a measurement ran on: without it a figure means nothing."""

import os
import platform
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from blake3 import blake3

_ROOT = Path(__file__).parents[1]
_MEASURED = ("services", "libs", "deploy")

# What decides how fast matrices are multiplied on a CPU.
_TELLING_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")


def machine(packages: Sequence[str] = ()) -> dict[str, object]:
    """The processor, its cores and memory, the system, the GPUs, and versions of `packages`."""
    return {
        "code": code_digest(),
        "processor": processor(),
        "instruction_sets": [flag for flag in _TELLING_FLAGS if flag in _cpu_field("flags")],
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average": os.getloadavg(),
        "system": platform.platform(),
        "gpus": gpus(),
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in packages},
    }


@cache
def code_digest() -> str:
    """Of the code that is measured, committed or not: figures of other code are not comparable."""
    hasher = blake3()
    for path in sorted(p for name in _MEASURED for p in (_ROOT / name).rglob("*.py")):
        hasher.update(f"{path.relative_to(_ROOT)}\0".encode())
        hasher.update(path.read_bytes())
    return hasher.hexdigest()[:16]


def processor() -> str:
    """Such as `2 x AMD EPYC`."""
    return f"{os.cpu_count()} x {_cpu_field('model name') or platform.processor()}"


def gpus() -> list[str]:
    """Names as the driver gives them; empty where there is none."""
    folders = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    lines = [line for folder in folders for line in folder.read_text().splitlines()]
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]


def _cpu_field(name: str) -> str:
    """Of the first processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
