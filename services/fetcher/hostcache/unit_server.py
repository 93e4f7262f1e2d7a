"""Gives workers of this node their weights: descriptors over a unix socket (SCM_RIGHTS).

A worker names the units that it needs and gets each as a freshly opened read-only descriptor with
a shared lock: its lease. It gets only what is part of the node's desired state, whichever fetch
brings it, as soon as the file exists; the file's own header says how far it is filled.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from libs.common.cancellation import cancel_all
from libs.common.errors import HydraError, UnitsRefused
from libs.common.strict_json import JsonFieldError, parse_object
from libs.common.weights.unitclient import MAX_DESCRIPTORS, MAX_REQUEST_BYTES, WantedUnits
from services.fetcher.desired import Desired, Signal
from services.fetcher.fetching.fetches import Fetches
from services.fetcher.fetching.manifests import Manifests
from services.fetcher.hostcache.hostcache import HostCache
from services.fetcher.hostcache.unit_socket import listening, sealed_memory, send_packet

logger = logging.getLogger(__name__)

MAX_WORKERS = 64  # connections at once
ACCEPT_PAUSE_S = 0.1  # after a connection that could not be accepted
_REQUEST_TIMEOUT_S = 5.0
_LOOK_AGAIN_S = 1.0
_MAX_WAIT_MS = 3_600_000  # for files, which come long before their bytes


@dataclass(frozen=True)
class UnitSources:
    desired: Desired
    manifests: Manifests
    fetches: Fetches
    cache: HostCache
    changed: Signal  # desired state, files or fetch states are different


@dataclass(frozen=True)
class _Request:
    units: WantedUnits
    deadline_s: float  # on time.monotonic()


@dataclass(frozen=True)
class _Lease:
    digest: str
    descriptor: int


class UnitServer:
    def __init__(self, path: Path, sources: UnitSources) -> None:
        self._path, self._sources = path, sources
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(MAX_WORKERS)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        with listening(self._path) as listener:
            accepting = asyncio.create_task(self._accept(listener))
            try:
                yield
            finally:
                await cancel_all({accepting, *self._tasks})

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._slots.acquire()
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:  # no descriptor to be had: workers wait in the socket's queue
                logger.exception("a worker's connection was not accepted")
                self._slots.release()
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            task = asyncio.create_task(self._serve(connection))
            self._tasks.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._slots.release()

    async def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                await self._answer(connection)
            except (ConnectionError, TimeoutError) as exc:
                logger.info("a worker went away while it waited for units: %r", exc)
            except Exception:
                logger.exception("a worker's request for units failed")

    async def _answer(self, connection: socket.socket) -> None:
        try:
            request = await _read_request(connection)
            handing = asyncio.create_task(self._hand_over(connection, request))
            await _run_while_connected(handing, connection)
        except UnitsRefused as exc:
            await send_packet(connection, _refusal(exc.code, str(exc)))
        except HydraError as exc:
            await send_packet(connection, _refusal("fetch_failed", str(exc)))

    async def _hand_over(self, connection: socket.socket, request: _Request) -> None:
        await self._until_desired(request)
        loaded = await self._sources.manifests.load(request.units.manifest_digest)
        with sealed_memory("manifest", loaded.data) as descriptor:
            await send_packet(connection, {"kind": "manifest"}, [descriptor])
        missing = list(request.units.digests)
        while missing:
            with self._leases(missing) as leases:
                for batch in _batches(leases):
                    body: dict[str, object] = {
                        "kind": "units",
                        "digests": [x.digest for x in batch],
                    }
                    await send_packet(connection, body, [lease.descriptor for lease in batch])
                del missing[: len(leases)]
            if missing:
                await self._await_files(request, missing)
        await send_packet(connection, {"kind": "done"})

    async def _until_desired(self, request: _Request) -> None:
        units = request.units
        while not self._sources.desired.has_units(units.manifest_digest, units.digests):
            await self._wait(request, "not_desired", "the scheduler wants no such units here")

    @contextlib.contextmanager
    def _leases(self, digests: Sequence[str]) -> Iterator[list[_Lease]]:
        """Leases of the leading units whose files exist; our copies are closed at the end."""
        with contextlib.ExitStack() as opened:
            leases: list[_Lease] = []
            for digest in digests:
                descriptor = self._sources.cache.lease(digest)
                if descriptor is None:
                    break
                opened.callback(os.close, descriptor)
                leases.append(_Lease(digest, descriptor))
            yield leases

    async def _await_files(self, request: _Request, missing: Sequence[str]) -> None:
        if not self._sources.desired.has_units(request.units.manifest_digest, missing):
            raise UnitsRefused("not_desired", "the scheduler does not want these units any more")
        cause = self._sources.fetches.failure_of(missing)
        if cause is not None:
            raise UnitsRefused("fetch_failed", cause)
        await self._wait(request, "deadline", "the units' files were not there in time")

    async def _wait(self, request: _Request, code: str, message: str) -> None:
        remaining_s = request.deadline_s - time.monotonic()
        if remaining_s <= 0:
            raise UnitsRefused(code, message)
        changed = self._sources.changed
        await changed.wait(changed.version, min(remaining_s, _LOOK_AGAIN_S))


def _batches(leases: Sequence[_Lease]) -> list[Sequence[_Lease]]:
    return [leases[i : i + MAX_DESCRIPTORS] for i in range(0, len(leases), MAX_DESCRIPTORS)]


def _refusal(code: str, message: str) -> dict[str, object]:
    return {"kind": "refused", "code": code, "message": message}


async def _read_request(connection: socket.socket) -> _Request:
    async with asyncio.timeout(_REQUEST_TIMEOUT_S):
        data = await asyncio.get_running_loop().sock_recv(connection, MAX_REQUEST_BYTES)
    if not data:
        raise ConnectionResetError("closed before it asked")
    try:
        body = parse_object(data, name="request")
        units = WantedUnits(
            body.text("manifest_digest", max_length=MAX_REQUEST_BYTES), body.texts("unit_digests")
        )
        wait_ms = min(body.integer("deadline_ms"), _MAX_WAIT_MS)
    except JsonFieldError as exc:
        raise UnitsRefused("bad_request", str(exc)) from exc
    return _Request(units, time.monotonic() + wait_ms / 1000)


async def _run_while_connected(work: "asyncio.Task[None]", connection: socket.socket) -> None:
    """Finish `work`, or cancel it when the worker hangs up: nobody would read the answer."""
    gone = asyncio.create_task(_until_closed(connection))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ConnectionResetError("closed while it waited")
        work.result()
    finally:
        await cancel_all((work, gone))


async def _until_closed(connection: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):
        await asyncio.get_running_loop().sock_recv(connection, 1)
