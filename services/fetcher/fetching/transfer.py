"""Moving bytes: ranged reads into unit files, each chunk hashed before it counts.

A chunk that breaks off goes on at the byte where it broke, a chunk that fails its digest is read
again from its start, and a store that stays silent for too long fails the fetch with the object
named. Runs in threads, four per fetch: http.client reads straight into shared memory.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from blake3 import blake3

from libs.common.errors import ObjectMissing, ObjectStoreDown, ObjectStoreRefused
from libs.common.objectstore.objectstore import RangeBody, RangeConnection, RangeSource
from libs.common.weights.manifest import ByteRange
from libs.common.weights.unitheader import UnitError
from services.fetcher.errors import FetchCancelled, FetchFailed
from services.fetcher.fetching.chunk_schedule import ChunkClaim, Fetch
from services.fetcher.fetching.governor import Flow, NicGovernor
from services.fetcher.fetching.rate_meter import RateMeter

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RetryPolicy:
    patience_s: float = 30.0  # without a single byte, then the fetch fails
    max_digest_failures: int = 3  # of one chunk
    first_delay_s: float = 0.05
    max_delay_s: float = 2.0

    def delay_s(self, num_failures: int) -> float:
        """Full jitter: many fetchers that lost one store do not come back at once."""
        ceiling = min(self.first_delay_s * 2 ** min(num_failures, 16), self.max_delay_s)
        return random.uniform(ceiling / 4, ceiling)


class Transfer:
    def __init__(
        self,
        source: RangeSource,
        governor: NicGovernor,
        meter: RateMeter,
        *,
        num_connections: int = 4,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._source, self._governor, self._meter = source, governor, meter
        self._num_connections = num_connections
        self._retry = retry or RetryPolicy()

    async def run(self, fetch: Fetch) -> None:
        """Bring everything the fetch wants. Raises FetchFailed, or FetchCancelled after cancel.

        Cancelling the task cancels the fetch and waits for its threads to let go of the files.
        """
        loop = asyncio.get_running_loop()
        pool = ThreadPoolExecutor(self._num_connections, f"fetch-{fetch.fetch_id}")
        connections = [self._source.connect() for _ in range(self._num_connections)]
        stop = partial(self._stop, fetch, connections)
        threads = [
            loop.run_in_executor(pool, self._work, fetch, connection, stop)
            for connection in connections
        ]
        try:
            await asyncio.shield(asyncio.gather(*threads))
        except asyncio.CancelledError:
            stop()
            await asyncio.gather(*threads)
            raise
        finally:
            pool.shutdown(wait=False)
        if fetch.failure is not None:
            raise fetch.failure
        if fetch.is_cancelled.is_set():
            raise FetchCancelled(f"fetch {fetch.fetch_id} was cancelled")

    def _stop(self, fetch: Fetch, connections: Sequence[RangeConnection]) -> None:
        fetch.cancel()
        self._governor.close_flow(fetch.flow)
        for connection in connections:
            connection.abort()  # a store that hangs would keep its thread until a timeout

    def _work(self, fetch: Fetch, connection: RangeConnection, stop: Callable[[], None]) -> None:
        with closing(connection):
            while (claim := fetch.next_claim()) is not None:
                try:
                    self._bring(fetch, claim, connection)
                except FetchCancelled:
                    connection.close()
                    fetch.abandon(claim)
                except FetchFailed as exc:
                    logger.warning("fetch failed: %s", exc, extra={"fetch_id": fetch.fetch_id})
                    fetch.fail(claim, exc)
                    stop()  # nobody needs what the other threads still bring
                except BaseException:
                    fetch.abandon(claim)
                    fetch.cancel()  # the other threads must not wait for this one
                    raise

    def _bring(self, fetch: Fetch, claim: ChunkClaim, connection: RangeConnection) -> None:
        for _ in range(self._retry.max_digest_failures):
            reader = _ChunkReader(fetch, claim, connection, self._governor, self._meter)
            self._read_to_end(reader)
            if reader.is_genuine:
                fetch.commit(claim, hashing_s=reader.hashing_s)
                return
            logger.warning("chunk does not match its digest", extra={"object": claim.key})
            connection.close()
        raise FetchFailed(
            claim.key,
            UnitError.DIGEST_MISMATCH,
            f"chunk {claim.index}, read {self._retry.max_digest_failures} times",
        )

    def _read_to_end(self, reader: "_ChunkReader") -> None:
        num_failures, progress_at_s, position = 0, time.monotonic(), 0
        while not reader.is_finished:
            try:
                reader.read_on()
            except ObjectMissing as exc:
                raise FetchFailed(reader.claim.key, UnitError.OBJECT_MISSING) from exc
            except ObjectStoreRefused as exc:
                raise FetchFailed(reader.claim.key, UnitError.STORE_REFUSED, str(exc)) from exc
            except ObjectStoreDown as exc:
                reader.disconnect()
                if reader.position > position:
                    num_failures, progress_at_s = 0, time.monotonic()
                    position = reader.position
                elif time.monotonic() - progress_at_s > self._retry.patience_s:
                    raise FetchFailed(
                        reader.claim.key, UnitError.STORE_UNREACHABLE, str(exc)
                    ) from exc
                num_failures += 1
                reader.pause(self._retry.delay_s(num_failures))


class _ChunkReader:
    """One chunk from its first byte to its last, over as many connections as it takes."""

    def __init__(
        self,
        fetch: Fetch,
        claim: ChunkClaim,
        connection: RangeConnection,
        governor: NicGovernor,
        meter: RateMeter,
    ) -> None:
        self.fetch, self.claim = fetch, claim
        self._connection, self._governor, self._meter = connection, governor, meter
        self._view = claim.download.writer.chunk_view(claim.index)
        self._hasher = blake3()
        self.position, self.hashing_s = 0, 0.0

    @property
    def is_finished(self) -> bool:
        return self.position == len(self._view)

    @property
    def is_genuine(self) -> bool:
        return self._hasher.hexdigest() == self.claim.digest

    def read_on(self) -> None:
        """Read from the current position. Raises ObjectStoreDown where the bytes stop."""
        unit = self.claim.download.unit
        extent = unit.chunk_range(self.claim.index)
        rest = ByteRange(extent.start + self.position, extent.end)
        body = self._connection.open_range(unit.key, rest, unit.size_bytes)
        while not self.is_finished:
            piece = self._view[self.position : self.position + self._governor.grant_bytes]
            with self._meter.busy():
                count = self._read(body, piece)
            if count == 0:
                raise ObjectStoreDown(f"{unit.key}: the connection ended early")
            self._take(piece[:count])

    def _read(self, body: RangeBody, piece: memoryview) -> int:
        """Once it is its turn on the card; how many bytes came."""
        flow = self._governor.acquire_from(self._payer, len(piece), order=self.claim.order)
        count = 0
        try:
            count = body.readinto(piece)
        finally:
            if count < len(piece):
                self._governor.refund(flow, len(piece) - count)
        return count

    def _payer(self) -> Flow:
        return self.claim.download.flow or self.fetch.flow

    def _take(self, piece: memoryview) -> None:
        self.fetch.note_bytes()
        self._meter.add(len(piece))
        started_s = time.perf_counter()
        self._hasher.update(piece)
        self.hashing_s += time.perf_counter() - started_s
        self.position += len(piece)
        if self.fetch.is_cancelled.is_set():
            raise FetchCancelled("the fetch was cancelled")

    def disconnect(self) -> None:
        self._connection.close()

    def pause(self, delay_s: float) -> None:
        if self.fetch.is_cancelled.wait(delay_s):
            raise FetchCancelled("the fetch was cancelled")
