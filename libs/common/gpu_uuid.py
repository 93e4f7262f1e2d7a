"""UUIDs of GPUs and of MIG instances, as NVIDIA's tools write them: `GPU-…`, `MIG-…`.

Numbers are no names: CUDA counts by speed or by bus, only what CUDA_VISIBLE_DEVICES shows, and the
management library by bus, everything.
"""

import re

_UUID = re.compile(r"(?:GPU|MIG)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_gpu_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


def bare_uuid(text: str) -> str:
    """Without what kind it is of, as CUDA tells it."""
    return text.partition("-")[2]
