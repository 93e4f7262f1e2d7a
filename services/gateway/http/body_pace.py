"""How fast each tenant's bodies are read: to parse and check them takes the loop from all streams.

A tenant that sends large bodies without pause is read at a bounded rate, whatever its number of
connections; its clients feel it as a slower network. What others send is read as it comes.
"""

import asyncio
from collections import OrderedDict

from libs.common.clock import Clock
from libs.common.network.token_bucket import TokenBucket

LARGE_BYTES = 2**20
_PAUSE_S = 0.005  # some tokens of every stream come through


class BodyPace:
    def __init__(self, rate_bytes_per_s: int, burst_bytes: int, clock: Clock) -> None:
        """`rate_bytes_per_s` is of each tenant, 0 is no limit; who has read less lately may have
        `burst_bytes` at once."""
        self._rate_bytes_per_s, self._burst_bytes, self._clock = (
            rate_bytes_per_s,
            burst_bytes,
            clock,
        )
        # By tenant, whoever was read longest ago first; a full one is not kept.
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    @property
    def num_tenants(self) -> int:
        return len(self._buckets)

    async def read(self, tenant: str, num_bytes: int) -> None:
        """So many bytes were read: returns once more may be."""
        self._buckets[tenant] = self._bucket(tenant).take(num_bytes)
        self._buckets.move_to_end(tenant)
        self._forget_full()
        wait_s = self._bucket(tenant).wait_s()
        while wait_s > 0:
            await asyncio.sleep(wait_s)
            wait_s = self._bucket(tenant).wait_s()  # others have read meanwhile

    def _bucket(self, tenant: str) -> TokenBucket:
        now_s, rate = self._clock.monotonic_s(), self._rate_bytes_per_s
        burst_bytes = self._burst_bytes
        burst_s = burst_bytes / rate if rate else 0.0
        unused = TokenBucket(rate, burst_bytes, now_s, burst_s)
        return self._buckets.get(tenant, unused).at(now_s)

    def _forget_full(self) -> None:
        """Of those read longest ago: a bucket that is full is as one that was never used."""
        while self._buckets:
            tenant = next(iter(self._buckets))
            missing_bytes = self._burst_bytes - self._bucket(tenant).level_bytes
            if self._rate_bytes_per_s and missing_bytes >= 1:  # less is rounding
                return
            del self._buckets[tenant]


async def pause_for_others(num_bytes: int) -> None:
    """Between two steps of work on a large body, each of which takes milliseconds of the loop."""
    if num_bytes >= LARGE_BYTES:
        await asyncio.sleep(_PAUSE_S)
