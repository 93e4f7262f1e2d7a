"""What an agent and a standby process say to each other, in packets. Stdlib only.

ready {pid}  →  bind {environment} with two descriptors  →  bound
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

MAX_PACKET_BYTES = 128 * 2**10  # an environment has a few hundred
BOUND = b"bound"


@dataclass(frozen=True)
class Binding:
    """All that makes a standby a certain worker; the rest is in the first frame, as always."""

    environment: Mapping[str, str]
    worker_end: int  # descriptor of the worker's end of the socketpair
    stderr: int  # descriptor


def socket_pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def ready_packet() -> bytes:
    return str(os.getpid()).encode()


def pid_in(packet: bytes) -> int | None:
    """None at the end of the stream, or for what is no ready packet."""
    return int(packet) if packet.isdigit() else None


def send_binding(channel: socket.socket, binding: Binding) -> None:
    """Raises OSError."""
    descriptors = [binding.worker_end, binding.stderr]
    socket.send_fds(channel, [json.dumps(dict(binding.environment)).encode()], descriptors)


def receive_binding(channel: socket.socket) -> Binding | None:
    """Waits for it; None when the agent has gone."""
    packet, descriptors, _, _ = socket.recv_fds(channel, MAX_PACKET_BYTES, 2)
    if not packet:
        return None
    worker_end, stderr = descriptors
    return Binding(json.loads(packet), worker_end, stderr)
