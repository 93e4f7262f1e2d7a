"""The two ZeroMQ sockets of a stage: an inlet that binds, an outlet that connects.

Heartbeats run in ZeroMQ's own thread, so neither a long step nor an import that holds the
interpreter's lock looks like death, while a process that was stopped or cut off is noticed in less
than HEARTBEAT_INTERVAL_MS + HEARTBEAT_TIMEOUT_MS.
"""

import socket
from typing import Final

import zmq
from zmq.utils.z85 import decode

from services.worker.frames.dataplane import KeyPair, Neighbour, Security
from services.worker.runtime.dataplane.admission import DOMAIN
from services.worker.runtime.dataplane.errors import BindError
from services.worker.runtime.dataplane.wire import MAX_FRAME_BYTES

HEARTBEAT_INTERVAL_MS: Final = 400
HEARTBEAT_TIMEOUT_MS: Final = 1_300
RECONNECT_MS: Final = 50
SEND_TIMEOUT_MS: Final = 5_000
# Above the micro-batches that can be in flight, so that it is never reached: a full inlet would
# stop reading, heartbeats too.
MAX_QUEUED: Final = 64


def make_keys() -> KeyPair:
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def decode_key(key: str) -> bytes:
    """The 32 bytes of a key of 40 characters. Raises ValueError."""
    return decode(key)


def open_inlet(
    context: zmq.Context[zmq.Socket[bytes]], security: Security, own: KeyPair
) -> zmq.Socket[bytes]:
    """A PULL socket that asks the ZAP handler about everybody; not bound yet."""
    inlet = context.socket(zmq.PULL)
    _set_common(inlet)
    inlet.set(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    inlet.set(zmq.ZAP_DOMAIN, DOMAIN)
    if security is Security.CURVE:
        inlet.set(zmq.CURVE_SERVER, 1)
        inlet.set(zmq.CURVE_SECRETKEY, own.secret.encode())
    else:
        inlet.set(zmq.PLAIN_SERVER, 1)
    return inlet


def bind(inlet: zmq.Socket[bytes], host: str) -> str:
    """A free port at this host's own address; a name is resolved. Raises BindError."""
    try:
        inlet.bind(f"tcp://{_resolve(host)}:*")
    except (OSError, zmq.ZMQError) as exc:
        raise BindError(f"no data port on {host}: {exc}") from exc
    endpoint = inlet.get(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    return endpoint.rstrip(b"\0").decode()


def open_outlet(
    context: zmq.Context[zmq.Socket[bytes]], security: Security, own: KeyPair, following: Neighbour
) -> zmq.Socket[bytes]:
    """A PUSH socket for one stage; `connect` it once it is watched."""
    outlet = context.socket(zmq.PUSH)
    _set_common(outlet)
    outlet.set(zmq.RECONNECT_IVL, RECONNECT_MS)
    outlet.set(zmq.SNDTIMEO, SEND_TIMEOUT_MS)
    if security is Security.CURVE:
        outlet.set(zmq.CURVE_SERVERKEY, following.public_key.encode())
        outlet.set(zmq.CURVE_PUBLICKEY, own.public.encode())
        outlet.set(zmq.CURVE_SECRETKEY, own.secret.encode())
    else:
        # No proof, but a stage that finds another one's port reused is not let in by mistake.
        outlet.set(zmq.PLAIN_USERNAME, own.public.encode())
        outlet.set(zmq.PLAIN_PASSWORD, following.public_key.encode())
    return outlet


def _resolve(host: str) -> str:
    """ZeroMQ binds to addresses alone. Raises OSError."""
    found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    return str(found[0][4][0])


def _set_common(end: zmq.Socket[bytes]) -> None:
    end.set(zmq.LINGER, 0)
    end.set(zmq.SNDHWM, MAX_QUEUED)
    end.set(zmq.RCVHWM, MAX_QUEUED)
    end.set(zmq.HEARTBEAT_IVL, HEARTBEAT_INTERVAL_MS)
    end.set(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
