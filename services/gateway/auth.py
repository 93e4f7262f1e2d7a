"""Authenticates callers: an API key to its tenant, from a cache that outlives Postgres.

Keys are compared by their SHA-256, so that time tells nothing about a key that is not known. A
revoked key works for as long as `FRESH_S` on gateways that have not heard of it. Unknown keys are
not remembered: a key works from the moment in which it is made, wherever and whenever it was tried
before, and a stranger's guesses push nobody's key out of the cache.

Nor do guesses delay others: keys that are not cached are looked up together, a hundred times a
second at most and with turns in rotation between addresses, apart from keys that are. Of those who
come with the same key at once only the first takes a turn.
"""

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from libs.common.clock import Clock
from libs.common.errors import DatabaseUnavailable
from libs.common.reasons import Reason
from libs.common.tenants import OPERATOR_TENANT
from services.gateway.errors import NotServed, Unauthorized
from services.gateway.fair_semaphore import FairSemaphore
from services.gateway.key_lookup import KeyFinder, KeyLookup
from services.gateway.store.keys import KeyInfo

ROW_TIMEOUT_S = 5.0  # how long a key whose row is about to be written is waited for
FRESH_S = 10.0  # without asking Postgres again
STALE_S = 3600.0  # while Postgres does not answer
_OUTAGE_S = 5.0  # after a failed lookup known keys do not wait for another
_MAX_CACHED = 10_000
MAX_LOOKED_UP = 64  # keys that are not cached, at a time
_PAUSE_S = 0.01  # between two statements for such keys
_MAX_KEY_CHARS = 256
_KEY_PREFIX = "hs-"


@dataclass(frozen=True)
class Caller:
    tenant: str
    key_id: str

    @property
    def is_operator(self) -> bool:
        return self.tenant == OPERATOR_TENANT


@dataclass(frozen=True)
class _Cached:
    info: KeyInfo
    read_at_s: float

    def is_fresh(self, now_s: float) -> bool:
        return now_s - self.read_at_s < FRESH_S

    def is_usable(self, now_s: float) -> bool:
        return now_s - self.read_at_s < STALE_S


def new_key() -> str:
    """160 random bits with a prefix that secret scanners can find."""
    return _KEY_PREFIX + secrets.token_hex(20)


def hash_key(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class Authenticator:
    """`note_use` is told a key's id each time that its row is read."""

    def __init__(
        self, finder: KeyFinder, clock: Clock, note_use: Callable[[str], None] = lambda _id: None
    ) -> None:
        self._clock, self._note_use = clock, note_use
        self._cached_keys = KeyLookup(finder)
        self._other_keys = KeyLookup(finder, pause_s=_PAUSE_S)
        self._turns = FairSemaphore(
            MAX_LOOKED_UP, what="unknown API keys are checked", reason=Reason.GATEWAY_FULL
        )
        self._cache: OrderedDict[str, _Cached] = OrderedDict()
        self._awaited: dict[str, asyncio.Event] = {}
        self._asked: dict[str, asyncio.Task[KeyInfo | None]] = {}  # that are not cached
        self._ask_again_s = 0.0

    async def authenticate(self, authorization: str | None, address: str = "") -> Caller:
        """Raises Unauthorized, or NotServed for an unseen key while Postgres is down or too many
        others are checked. `address`: the client's."""
        key_sha256 = hash_key(_bearer(authorization))
        info = await self._find(key_sha256, address)
        if info is None:
            raise Unauthorized("this API key is not known, or was revoked", code="invalid_api_key")
        return Caller(info.tenant, info.key_id)

    def await_row(self, key_sha256: str) -> None:
        """Of a key that is written once Postgres is there: until then nobody can say whether it was
        revoked, and who uses it waits, for ROW_TIMEOUT_S at most."""
        self._awaited[key_sha256] = asyncio.Event()

    def row_written(self, key_sha256: str) -> None:
        """From now on its row counts."""
        self._awaited.pop(key_sha256).set()

    def forget(self, key_sha256: str) -> None:
        """After revoking it here."""
        self._cache.pop(key_sha256, None)

    async def _find(self, key_sha256: str, address: str) -> KeyInfo | None:
        if (written := self._awaited.get(key_sha256)) is not None:
            await _wait_for_row(written)
        cached, now_s = self._cache.get(key_sha256), self._clock.monotonic_s()
        if cached is not None and cached.is_fresh(now_s):
            return cached.info
        if cached is not None and cached.is_usable(now_s) and now_s < self._ask_again_s:
            return cached.info
        try:
            info = await self._look_up(key_sha256, address, is_cached=cached is not None)
        except DatabaseUnavailable as exc:
            self._ask_again_s = self._clock.monotonic_s() + _OUTAGE_S
            if cached is not None and cached.is_usable(self._clock.monotonic_s()):
                return cached.info
            raise _unchecked() from exc
        if info is None:
            self.forget(key_sha256)
        else:
            self._remember(key_sha256, info)
        return info

    async def _look_up(self, key_sha256: str, address: str, *, is_cached: bool) -> KeyInfo | None:
        if is_cached:
            return await self._cached_keys.find(key_sha256)
        asked = self._asked.get(key_sha256)
        if asked is None:
            asked = asyncio.create_task(self._in_turn(key_sha256, address), name="look up a key")
            self._asked[key_sha256] = asked
            asked.add_done_callback(lambda done: self._end_asking(key_sha256, done))
        return await asyncio.shield(asked)  # others may wait for it too

    def _end_asking(self, key_sha256: str, asked: "asyncio.Task[KeyInfo | None]") -> None:
        if self._asked.get(key_sha256) is asked:
            del self._asked[key_sha256]
        if not asked.cancelled():
            asked.exception()  # nobody may be left to look at it

    async def _in_turn(self, key_sha256: str, address: str) -> KeyInfo | None:
        await self._turns.acquire(address)
        # Whoever comes from now on may have a key that was made since: it is asked for anew.
        self._asked.pop(key_sha256, None)
        try:
            return await self._other_keys.find(key_sha256)
        finally:
            self._turns.release()

    def _remember(self, key_sha256: str, info: KeyInfo) -> None:
        self._note_use(info.key_id)
        self._cache[key_sha256] = _Cached(info, self._clock.monotonic_s())
        self._cache.move_to_end(key_sha256)
        while len(self._cache) > _MAX_CACHED:
            self._cache.popitem(last=False)


async def _wait_for_row(written: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(ROW_TIMEOUT_S):
            await written.wait()
    except TimeoutError:
        raise _unchecked() from None


def _unchecked() -> NotServed:
    message = "API keys cannot be checked now"
    return NotServed(message, Reason.DATABASE_UNAVAILABLE)


def _bearer(authorization: str | None) -> str:
    scheme, _, key = (authorization or "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key or len(key) > _MAX_KEY_CHARS:
        message = "an API key is required: Authorization: Bearer <key>"
        raise Unauthorized(message, code="invalid_api_key")
    return key
