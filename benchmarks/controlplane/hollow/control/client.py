"""The driver's side of a process of hollow nodes."""

import asyncio
from pathlib import Path

from benchmarks.controlplane.hollow.control.messages import Envelope, Reply, Request

TIMEOUT_S = 60.0


class ControlFailed(Exception):
    """A process of hollow nodes did not do what it was asked."""


async def ask(control_socket: Path, request: Request) -> Reply:
    """Raises ControlFailed, OSError, TimeoutError."""
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_unix_connection(control_socket)
        try:
            writer.write(Envelope(request=request).model_dump_json().encode() + b"\n")
            reply = Reply.model_validate_json(await reader.readline())
        finally:
            writer.close()
            await writer.wait_closed()
    if reply.error is not None:
        raise ControlFailed(reply.error)
    return reply
