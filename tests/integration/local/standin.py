"""Stands in for a service: touches its health file, answers /healthz where it has a port.

It also starts a grandchild that ends with it, and writes down both process ids, so that tests can
look for what is left. With HYDRA_STANDIN_FAILS set to its name it fails at start instead.
"""

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def start_grandchild() -> int:
    libc = ctypes.CDLL(None)
    return subprocess.Popen(
        ["sleep", "1000"], preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    ).pid


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    await writer.drain()
    writer.close()


async def main() -> None:
    health = Path(os.environ["HYDRA_HEALTH_FILE"])
    if os.environ.get("HYDRA_STANDIN_FAILS") == health.name:
        sys.exit("the stand-in was told to fail")
    seen = {"pids": [os.getpid(), start_grandchild()], "environment": dict(os.environ)}
    health.with_suffix(".seen").write_text(json.dumps(seen))
    if port := os.environ.get("HYDRA_GATEWAY_PORT"):
        await asyncio.start_server(answer, os.environ["HYDRA_GATEWAY_HOST"], int(port))
    while True:
        await asyncio.to_thread(health.touch)
        await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(main())
