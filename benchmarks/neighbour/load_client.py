"""The disturbing tenant's client, a process of its own:
`python -m benchmarks.neighbour.load_client PORT KEY MODEL NUM_STREAMS INTERVALS_S`.

It holds streams open and sends large prompts without pause. It costs as little as it can, because
it shares the machine with what is measured: bodies are prepared, answers are counted and dropped,
and it runs at the lowest priority. It says `held` once every stream has its answer's head, and
ends, with its counts, when its input does. INTERVALS_S are the least times between two prompts of
each size: 0 is without pause.
"""

import asyncio
import json
import os
import re
import sys
import time
from collections import Counter

HOST = "127.0.0.1"
# The first is refused for its size. The second fits its model's context, so it is tokenized and
# queued; its client leaves as soon as it has the answer's head.
LARGE_BYTES = (8 * 2**20 - 4096, 100_000)
_OPENING_AT_ONCE = 64
_HEAD_TIMEOUT_S = 120.0
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def request_bytes(key: str, model: str, content: str, *, stream: bool) -> bytes:
    body = json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": 8,
            "stream": stream,
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class HeldStream(asyncio.Protocol):
    """Sends one request; knows its status and drops the rest."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.status: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.status.done():
            self.status.set_result(data[9:12].decode())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.status.done():
            self.status.set_result("closed")


async def hold_streams(port: int, request: bytes, count: int) -> Counter[str]:
    """Returns once all have a status; they stay open until the process ends."""
    loop, turn = asyncio.get_running_loop(), asyncio.Semaphore(_OPENING_AT_ONCE)

    async def hold() -> str:
        async with turn:
            try:
                _, stream = await loop.create_connection(lambda: HeldStream(request), HOST, port)
                async with asyncio.timeout(_HEAD_TIMEOUT_S):
                    return await stream.status
            except (OSError, TimeoutError) as exc:
                return type(exc).__name__

    return Counter(await asyncio.gather(*(hold() for _ in range(count))))


async def send_on(port: int, request: bytes, interval_s: float, statuses: Counter[str]) -> None:
    """One after the other over a connection that is opened again whenever it is closed."""
    while True:
        try:
            reader, writer = await asyncio.open_connection(HOST, port)
        except OSError as exc:
            statuses[type(exc).__name__] += 1
            await asyncio.sleep(0.1)
            continue
        try:
            while True:
                begun_s = time.monotonic()
                await _send(reader, writer, request, statuses)
                await asyncio.sleep(max(0.0, begun_s + interval_s - time.monotonic()))
        except ValueError:
            pass  # counted, and given up with its connection
        except (OSError, asyncio.IncompleteReadError):
            statuses["closed"] += 1
        finally:
            writer.close()


async def _send(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    request: bytes,
    statuses: Counter[str],
) -> None:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    statuses[head[9:12].decode()] += 1
    length = _LENGTH.search(head)
    if length is None:
        raise ValueError("a stream, which nobody reads")
    await reader.readexactly(int(length[1]))
    await writer.drain()


def _large_request(key: str, model: str, size: int) -> bytes:
    return request_bytes(key, model, "word " * (size // 5), stream=True)


async def run(port: int, key: str, model: str, num_streams: int, intervals_s: list[float]) -> None:
    began_s = time.monotonic()
    small = request_bytes(key, model, "hi", stream=True)
    held = await hold_streams(port, small, num_streams)
    opened_s = time.monotonic() - began_s
    print("held", flush=True)
    sent = {size: Counter[str]() for size in LARGE_BYTES}
    tasks = [
        asyncio.create_task(send_on(port, _large_request(key, model, size), interval_s, statuses))
        for (size, statuses), interval_s in zip(sent.items(), intervals_s, strict=True)
    ]
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    counts = {"held": held, "opened_s": opened_s, "sent": sent, "cpu_s": time.process_time()}
    print(json.dumps(counts), flush=True)


def main() -> None:
    os.nice(19)
    port, key, model, num_streams, intervals_s = sys.argv[1:]
    intervals = [float(text) for text in intervals_s.split(",")]
    asyncio.run(run(int(port), key, model, int(num_streams), intervals))


if __name__ == "__main__":
    main()
