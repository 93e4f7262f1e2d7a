"""The measured tenant's client, a process of its own:
`python -m benchmarks.neighbour.measured_client PORT KEY MODEL`.

One stream after the other, for the gaps between tokens; beside it short requests at random moments
(Poisson), for first tokens. It prints every sample as a line of JSON with its moment, until its
input ends.
"""

import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass

from benchmarks.neighbour.load_client import HOST

NUM_TOKENS = 200
PROBE_INTERVAL_S = 0.5  # mean
PROBE_TOKENS = 2
PATIENCE_S = 30.0  # what is not whole by then has failed
SEED = 7


@dataclass(frozen=True)
class Target:
    port: int
    key: str
    model: str

    def request(self, max_tokens: int) -> bytes:
        body = json.dumps(
            {
                "model": self.model,
                "messages": [{"role": "user", "content": "Tell me a long story."}],
                "max_tokens": max_tokens,
                "ignore_eos": True,
                "temperature": 0,
                "stream": True,
            }
        ).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {HOST}\r\n"
            f"Authorization: Bearer {self.key}\r\nContent-Type: application/json\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def tell(kind: str, value: float | str) -> None:
    print(json.dumps({"at_s": time.monotonic(), "kind": kind, "value": value}), flush=True)


async def stream(target: Target, max_tokens: int, name: str) -> None:
    """Tells `<name>_first`, `<name>_gap` between tokens, or `<name>_failed` with the status."""
    began_s = last_s = time.monotonic()
    reader, writer = await asyncio.open_connection(HOST, target.port)
    try:
        writer.write(target.request(max_tokens))
        status = (await reader.readuntil(b"\r\n\r\n"))[9:12].decode()
        num_tokens, is_done = 0, False
        while line := await reader.readline():
            is_done |= line.startswith(b"data: [DONE]")
            if not line.startswith(b"data: {") or b'"finish_reason":null' not in line:
                continue
            now_s = time.monotonic()
            if num_tokens == 0:
                tell(f"{name}_first", now_s - began_s)
            else:
                tell(f"{name}_gap", now_s - last_s)
            num_tokens, last_s = num_tokens + 1, now_s
        if status != "200" or not is_done:
            tell(f"{name}_failed", status)
    finally:
        writer.close()


async def guarded(target: Target, max_tokens: int, name: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            await stream(target, max_tokens, name)
    except (OSError, asyncio.IncompleteReadError) as exc:
        tell(f"{name}_failed", type(exc).__name__)
        await asyncio.sleep(0.1)


async def stream_on(target: Target) -> None:
    while True:
        await guarded(target, NUM_TOKENS, "stream")


async def probe_on(target: Target) -> None:
    """Requests come when they come, whether or not those before them were answered."""
    draw, tasks = random.Random(SEED), set()
    while True:
        await asyncio.sleep(draw.expovariate(1 / PROBE_INTERVAL_S))
        task = asyncio.create_task(guarded(target, PROBE_TOKENS, "probe"))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def run(target: Target) -> None:
    tasks = [asyncio.create_task(work) for work in (stream_on(target), probe_on(target))]
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()


def main() -> None:
    port, key, model = sys.argv[1:]
    asyncio.run(run(Target(int(port), key, model)))


if __name__ == "__main__":
    main()
