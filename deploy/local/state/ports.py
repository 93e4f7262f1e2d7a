"""Free TCP ports on loopback that stay ours while a server is down.

They are taken from below the kernel's ephemeral range: a client that retries a dead server on an
ephemeral port can be given that very port as its source, and then talks to itself.
"""

import random
import socket
from contextlib import ExitStack
from pathlib import Path

LOOPBACK = "127.0.0.1"
_LOWEST_PORT = 15_000
_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on. Raises OSError when there are too few."""
    candidates = list(range(_LOWEST_PORT, _ephemeral_start()))
    random.SystemRandom().shuffle(candidates)
    with ExitStack() as held:
        ports: list[int] = []
        for port in candidates:
            if len(ports) == count:
                return ports
            if _try_hold(port, held):
                ports.append(port)
    raise OSError(f"fewer than {count} free ports below {_ephemeral_start()}")


def _ephemeral_start() -> int:
    """First port that the kernel hands out by itself; all of them where it starts very low."""
    start = int(_RANGE_FILE.read_text().split()[0]) if _RANGE_FILE.exists() else 32_768
    return start if start > _LOWEST_PORT + 1000 else 65_535


def _try_hold(port: int, held: ExitStack) -> bool:
    probe = held.enter_context(socket.socket())
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((LOOPBACK, port))
    except OSError:
        return False
    return True
