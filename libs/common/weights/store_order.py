"""Refuses machines on which a reader could see a unit's progress before its bytes.

A fetcher stores bytes and then how many are verified; readers load that number and then the bytes.
x86-64 shows stores in program order and loads in theirs, also across processes (copies that bypass
the cache are fenced by libc and kernel). Others, such as Arm, do not unless told by instructions
that Python has no words for, and the few packages of atomic operations are not kept up. There
weights would be wrong once in a while and nobody would know.
"""

import platform
from typing import Final

from libs.common.errors import UnsupportedMachine

ORDERED_MACHINES: Final = frozenset({"x86_64", "AMD64"})


def require_store_order(machine: str | None = None) -> None:
    """`machine` as `platform.machine` says it, which is asked if it is not given.

    Raises UnsupportedMachine.
    """
    machine = platform.machine() if machine is None else machine
    if machine not in ORDERED_MACHINES:
        raise UnsupportedMachine(
            f"this machine is {machine or 'of an unknown kind'}: weights are shared between "
            "processes in a way that is right on x86-64 only, where memory shows stores in order; "
            "run fetchers and workers on x86-64 (gateways and schedulers run anywhere)"
        )
