"""Streams of a client that notes when each token came."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import httpx

from benchmarks.consolidation.samples import Arrival
from tests.support.waiting import eventually

SEED = 2_026
_WORDS = (
    *("river", "lantern", "harbour", "window", "mountain", "letter", "orchard", "winter"),
    *("bridge", "market", "engine", "garden", "island", "thunder", "village", "compass"),
    *("painter", "meadow", "station", "feather", "anchor", "candle", "journey", "valley"),
)
_TIMEOUT_S = 240.0
_POLL_S = 0.02


def prompt(index: int, num_words: int) -> str:
    """Each of them another one; the same for the same index."""
    draw = random.Random(SEED + index)
    words = " ".join(draw.choices(_WORDS, k=num_words))
    return f"Continue this list of words with a long story about them: {words}"


@dataclass
class Stream:
    """`arrivals`: chunks with text, by the clock of time.time(), which steps are told in, too."""

    http: httpx.AsyncClient
    model: str
    content: str
    max_tokens: int
    began_at_s: float = 0.0
    num_prompt_tokens: int = 0
    arrivals: list[Arrival] = field(default_factory=list)

    async def run(self) -> None:
        """Reads all of it."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": self.content}],
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        self.began_at_s = time.time()
        async with self.http.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                raise RuntimeError(f"{response.status_code}: {(await response.aread())[:300]!r}")
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    self._note(time.time(), line)

    @property
    def num_tokens(self) -> int:
        return self.arrivals[-1].num_tokens if self.arrivals else 0

    @property
    def tpot_s(self) -> float:
        """From its first token to its last."""
        first, last = self.arrivals[0], self.arrivals[-1]
        return (last.at_s - first.at_s) / (last.num_tokens - first.num_tokens)

    @property
    def ttft_s(self) -> float:
        return self.arrivals[0].at_s - self.began_at_s

    def gaps(self, began_s: float, ended_s: float) -> list[float]:
        """Between tokens that came in that time."""
        times = [a.at_s for a in self.arrivals if began_s <= a.at_s < ended_s]
        return [later - earlier for earlier, later in pairwise(times)]

    def _note(self, at_s: float, line: str) -> None:
        chunk = json.loads(line.removeprefix("data: "))
        if "error" in chunk:
            raise RuntimeError(f"the stream ended with an error: {chunk['error']}")
        if any(choice["delta"].get("content") for choice in chunk["choices"]):
            self.num_prompt_tokens = chunk["usage"]["prompt_tokens"]
            self.arrivals.append(Arrival(at_s, chunk["usage"]["completion_tokens"]))


async def asked(http: httpx.AsyncClient, model: str, content: str, max_tokens: int) -> Stream:
    """A whole answer."""
    stream = Stream(http, model, content, max_tokens)
    async with asyncio.timeout(_TIMEOUT_S):
        await stream.run()
    return stream


@asynccontextmanager
async def running(streams: Sequence[Stream]) -> AsyncIterator[None]:
    """All of them at once. At its end they are cut off, and that has happened."""
    tasks = [asyncio.create_task(stream.run()) for stream in streams]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()  # what it failed with
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until_tokens(streams: Sequence[Stream], num_tokens: int) -> None:
    """Each has so many."""
    await eventually(
        lambda: all(stream.num_tokens >= num_tokens for stream in streams),
        timeout_s=_TIMEOUT_S,
        poll_s=_POLL_S,
        what=f"{num_tokens} tokens of each stream",
    )
