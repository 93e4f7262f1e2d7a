"""One model's tokenizer: text to ids in a bounded thread pool, ids to text at once.

Encoding 128 KB takes 65 ms, so it never runs on the event loop; decoding one step's window takes
microseconds. A tokenizer.json is a stranger's file: whatever it makes the library do, including a
panic, ends as TokenizerFailed.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tokenizers import Tokenizer as LibraryTokenizer

from libs.common.reasons import Reason
from services.gateway.errors import TokenizerFailed
from services.gateway.fair_semaphore import FairSemaphore
from services.gateway.text.control_token_guard import ControlTokenGuard
from services.gateway.text.token_bytes import token_bytes

CALL_TIMEOUT_S = 30.0  # of one call, once it is its turn
_LOADING = ""  # instead of a tenant: whoever asks first loads for all

_Result = TypeVar("_Result")


class TokenizerThreads:
    """The pool that all models' tokenizers share, and all tenants in fair turns."""

    def __init__(self, num_threads: int) -> None:
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="tokenizer")
        self._semaphore = FairSemaphore(
            num_threads, what="prompts are tokenized", reason=Reason.TOKENIZER_BUSY
        )

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, call: Callable[[], _Result], tenant: str) -> _Result:
        """Raises TokenizerFailed, or NotServed when its turn does not come soon."""
        await self._semaphore.acquire(tenant)
        future = asyncio.get_running_loop().run_in_executor(self._threads, _guarded, call)
        future.add_done_callback(self._ended)  # also long after our own deadline
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                return await asyncio.shield(future)
        except TimeoutError as exc:
            raise TokenizerFailed(f"no result within {CALL_TIMEOUT_S:g} s") from exc

    def _ended(self, future: "asyncio.Future[_Result]") -> None:
        self._semaphore.release()
        if not future.cancelled():
            future.exception()  # seen, even when nobody waits any more


def _guarded(call: Callable[[], _Result]) -> _Result:
    try:
        return call()
    except Exception as exc:
        raise TokenizerFailed(f"the tokenizer failed: {str(exc)[:200]}") from exc
    except BaseException as exc:
        # A Rust panic; pyo3 derives it from BaseException.
        if type(exc).__name__ != "PanicException":
            raise
        raise TokenizerFailed("the tokenizer panicked") from exc


@dataclass(frozen=True)
class Tokenizer:
    """Special tokens are found in any text but in guard when encoding (the template writes them),
    and are left out when decoding."""

    library: LibraryTokenizer
    threads: TokenizerThreads
    is_byte_level: bool
    special_texts: tuple[str, ...]
    prefix_ids: tuple[int, ...]  # what it puts before a text, as the model was trained
    _plain: "_Lazy"  # the same, blind to special tokens

    @classmethod
    async def load(cls, tokenizer_json: str, threads: TokenizerThreads) -> "Tokenizer":
        """Raises TokenizerFailed, NotServed."""
        library, prefix_ids = await threads.run(lambda: _load_whole(tokenizer_json), _LOADING)
        added = library.get_added_tokens_decoder().values()
        return cls(
            library,
            threads,
            is_byte_level="ByteLevel" in repr(library.decoder),
            special_texts=tuple(token.content for token in added if token.special),
            prefix_ids=prefix_ids,
            _plain=_Lazy(lambda: _plain_twin(library.to_str())),
        )

    async def encode(
        self, text: str, guard: ControlTokenGuard | None, tenant: str
    ) -> tuple[int, ...]:
        """Raises TokenizerFailed, NotServed."""
        return await self.threads.run(lambda: self._encode(text, guard), tenant)

    def _encode(self, text: str, guard: ControlTokenGuard | None) -> tuple[int, ...]:
        if guard is None:
            return _ids(self.library, text)
        plain = self._plain.get()
        parts = (
            _ids(plain if piece.is_quoted else self.library, piece.text)
            for piece in guard.pieces(text)
        )
        return tuple(token_id for part in parts for token_id in part)

    def decode(self, ids: Sequence[int]) -> str:
        return self.library.decode(ids, skip_special_tokens=True)

    def token_bytes(self, token_id: int) -> bytes:
        """One token alone, special ones too; perhaps a part of a character."""
        piece = self.library.id_to_token(token_id) or ""
        text = self.library.decode([token_id], skip_special_tokens=False)
        return token_bytes(piece, text, is_byte_level=self.is_byte_level)


def _ids(library: LibraryTokenizer, text: str) -> tuple[int, ...]:
    return tuple(library.encode(text, add_special_tokens=False).ids)


class _Lazy:
    """A tokenizer that few prompts need, loaded by the first, in whichever thread that is."""

    def __init__(self, load: Callable[[], LibraryTokenizer]) -> None:
        self._load, self._lock = load, threading.Lock()
        self._loaded: LibraryTokenizer | None = None

    def get(self) -> LibraryTokenizer:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded


def _plain_twin(tokenizer_json: str) -> LibraryTokenizer:
    """A twin, because the switch would show in encodings that run at the same time."""
    library = _load(tokenizer_json)
    library.encode_special_tokens = True
    return library


def _load_whole(tokenizer_json: str) -> tuple[LibraryTokenizer, tuple[int, ...]]:
    library = _load(tokenizer_json)
    return library, _prefix_ids(library)


def _prefix_ids(library: LibraryTokenizer) -> tuple[int, ...]:
    """What comes before any text: most put one token there, or none. What they put after it would
    be an end, which a prompt has not reached."""
    plain, whole = (
        library.encode("a", add_special_tokens=special).ids for special in (False, True)
    )
    starts = range(len(whole) - len(plain) + 1)
    found = next((at for at in starts if whole[at : at + len(plain)] == plain), 0)
    return tuple(whole[:found])


def _load(tokenizer_json: str) -> LibraryTokenizer:
    library = LibraryTokenizer.from_str(tokenizer_json)
    library.no_truncation()
    library.no_padding()
    return library
