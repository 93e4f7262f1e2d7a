"""Moving no bytes: a real fetch's chunks are verified once the simulated card has moved them."""

import asyncio
from collections.abc import Callable

from benchmarks.controlplane.hollow.fetching.nic import SimulatedNic
from services.fetcher.fetching.chunk_schedule import ChunkClaim, Fetch
from services.fetcher.fetching.rate_meter import RateMeter

LOOK_AGAIN_S = 0.02  # while what is left is in other fetches' hands, or has no file yet


class HollowTransfer:
    def __init__(
        self, nic: SimulatedNic, meter: RateMeter, first_byte_s: Callable[[], float]
    ) -> None:
        self._nic, self._meter, self._first_byte_s = nic, meter, first_byte_s

    async def run(self, fetch: Fetch) -> None:
        """Bring everything the fetch wants. Cancelling the task ends it."""
        await asyncio.sleep(0)  # its units are added meanwhile: often all of them are cached
        with self._meter.busy():
            while not fetch.is_over:
                claim = fetch.claim_now()
                if claim is None:
                    await asyncio.sleep(LOOK_AGAIN_S)
                else:
                    await self._bring(fetch, claim)
        if fetch.failure is not None:
            raise fetch.failure

    async def _bring(self, fetch: Fetch, claim: ChunkClaim) -> None:
        num_bytes = claim.download.unit.chunk_range(claim.index).nbytes
        try:
            if fetch.progress.first_byte_at is None:
                await asyncio.sleep(self._first_byte_s())
                fetch.note_bytes()
            await self._nic.move(lambda: claim.download.flow or fetch.flow, num_bytes, claim.order)
        except BaseException:
            fetch.abandon(claim)
            raise
        self._meter.add(num_bytes)
        fetch.note_bytes()
        fetch.commit(claim)
