"""Requests that come when they come (Poisson), whether or not those before them were answered."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle

from benchmarks.controlplane.catalogue import Catalogue
from benchmarks.controlplane.client import Outcome, ask

COLD, WARM = "cold", "warm"
NUM_TOKENS = {COLD: 8, WARM: 16}


@dataclass(frozen=True)
class Answered:
    kind: str
    outcome: Outcome


@dataclass
class Asker:
    """Sends requests to the gateways in turn and keeps what came of them."""

    ports: Sequence[int]
    keys: Mapping[str, str]  # by tenant
    catalogue: Catalogue
    outcomes: list[Answered] = field(default_factory=list)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    _ports: Iterator[int] | None = None

    def send(self, number: int, kind: str) -> None:
        """One request to the model of that number; does not wait for its end."""
        task = asyncio.create_task(self._ask(number, kind), name=kind)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> list[Answered]:
        """Once all that were sent have ended: what came of them since the last call."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        return self.take()

    async def finish_cold(self) -> list[Answered]:
        """As `finish`, once the cold ones have ended: warm traffic goes on."""
        while cold := {task for task in self._tasks if task.get_name() == COLD}:
            await asyncio.wait(cold)
        return self.take()

    def take(self) -> list[Answered]:
        outcomes, self.outcomes = self.outcomes, []
        return outcomes

    async def _ask(self, number: int, kind: str) -> None:
        if self._ports is None:
            self._ports = cycle(self.ports)
        key = self.keys[self.catalogue.tenant(number)]
        name = self.catalogue.name(number)
        outcome = await ask(next(self._ports), key, name, NUM_TOKENS[kind])
        self.outcomes.append(Answered(kind, outcome))


async def poisson(per_s: float, duration_s: float, seed: str, send: Callable[[], None]) -> None:
    """Calls `send` at random moments for so long. Late ones are made up for at once."""
    draw, loop = random.Random(seed), asyncio.get_running_loop()
    next_s = began_s = loop.time()
    while True:
        next_s += draw.expovariate(per_s)
        if next_s - began_s > duration_s:
            await asyncio.sleep(max(0.0, began_s + duration_s - loop.time()))
            return
        await asyncio.sleep(max(0.0, next_s - loop.time()))
        send()


@asynccontextmanager
async def warm_traffic(
    asker: Asker, numbers: Sequence[int], per_s: float, seed: str
) -> AsyncIterator[None]:
    """To these models, which serve already, for as long as the block runs."""
    turns = cycle(numbers)
    task = asyncio.create_task(
        poisson(per_s, float("inf"), seed, lambda: asker.send(next(turns), WARM))
    )
    try:
        yield
    finally:
        task.cancel()
