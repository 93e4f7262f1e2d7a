"""The unit socket itself: SEQPACKET, one JSON object per packet, descriptors beside it."""

import asyncio
import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

_SEND_TIMEOUT_S = 10.0
_BACKLOG = 64
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A listener that only this user can connect to; a stale socket of a dead fetcher goes."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.setblocking(False)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(_BACKLOG)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


async def send_packet(
    connection: socket.socket, body: dict[str, object], descriptors: Sequence[int] = ()
) -> None:
    """Raises ConnectionError when the worker is gone, TimeoutError when it does not read."""
    data = json.dumps(body).encode()
    async with asyncio.timeout(_SEND_TIMEOUT_S):
        while True:
            with contextlib.suppress(BlockingIOError):
                socket.send_fds(connection, [data], list(descriptors), socket.MSG_NOSIGNAL)
                return
            await _until_writable(connection)


@contextlib.contextmanager
def sealed_memory(name: str, data: bytes) -> Iterator[int]:
    """A descriptor of memory that holds `data` and that nobody can change."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(data)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


async def _until_writable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    writable: asyncio.Future[None] = loop.create_future()
    loop.add_writer(connection, _resolve, writable)
    try:
        await writable
    finally:
        loop.remove_writer(connection)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
