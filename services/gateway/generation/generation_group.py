"""The generations of one HTTP request, which begin and end together: one for each prompt."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from libs.common.states import RequestOutcome
from services.gateway.errors import ApiError
from services.gateway.generation.dispatcher import Dispatcher
from services.gateway.generation.generation_stream import GenerationStream
from services.gateway.generation.job import Job
from services.gateway.http.disconnect import cancel_and_wait


@dataclass(frozen=True)
class GenerationGroup:
    generations: tuple[GenerationStream, ...]

    async def opened(self) -> None:
        """Returns once all are accepted. Raises ApiError when one is not."""
        for generation in self.generations:
            await generation.opened()

    def remaining_s(self) -> float:
        """They have the same deadline."""
        return self.generations[0].remaining_s()

    def failed(self, error: ApiError) -> None:
        """The client is told of an error: that is the end of those that have none yet."""
        for generation in self.generations:
            if generation.outcome is RequestOutcome.CANCELLED:
                generation.failed(error)

    async def until_broken(self) -> None:
        """Returns when the dispatch of one failed; never otherwise."""
        if len(self.generations) == 1:
            return await self.generations[0].until_broken()
        tasks = [asyncio.create_task(each.until_broken()) for each in self.generations]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait(*tasks)


@asynccontextmanager
async def run_all(dispatcher: Dispatcher, jobs: Sequence[Job]) -> AsyncIterator[GenerationGroup]:
    """Leaving the block ends them all. Raises ApiError as `Dispatcher.run` does."""
    async with AsyncExitStack() as stack:
        generations = [await stack.enter_async_context(dispatcher.run(job)) for job in jobs]
        yield GenerationGroup(tuple(generations))
