"""One model's tokenizer: text to ids in a bounded thread pool, ids to text at once.

Encoding 128 KB takes 65 ms, so it never runs on the event loop; decoding one step's window takes
microseconds. A tokenizer.json is a stranger's file: whatever it makes the library do, including a
panic, ends as TokenizerFailed.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tokenizers import Tokenizer as LibraryTokenizer

from services.gateway.errors import TokenizerFailed, Unavailable
from services.gateway.text.tokenbytes import token_bytes

CALL_TIMEOUT_S = 30.0
_MAX_CALLS = 64  # running and waiting, per process

_Result = TypeVar("_Result")


class TokenizerThreads:
    """The pool that all models' tokenizers share."""

    def __init__(self, num_threads: int) -> None:
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="tokenizer")
        self._num_calls = 0

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, call: Callable[[], _Result]) -> _Result:
        """Raises TokenizerFailed, or Unavailable when too many calls wait already."""
        if self._num_calls >= _MAX_CALLS:
            message = "too many prompts are being tokenized, try again"
            raise Unavailable(message, code="tokenizer_busy", retry_after_s=1)
        self._num_calls += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, _guarded, call)
        future.add_done_callback(self._ended)  # also long after our own deadline
        try:
            return await asyncio.wait_for(asyncio.shield(future), CALL_TIMEOUT_S)
        except TimeoutError as exc:
            raise TokenizerFailed(f"no result within {CALL_TIMEOUT_S:g} s") from exc

    def _ended(self, future: "asyncio.Future[_Result]") -> None:
        self._num_calls -= 1
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
    """Special tokens are text like any other when encoding (the template writes them), and are
    left out when decoding."""

    library: LibraryTokenizer
    threads: TokenizerThreads
    is_byte_level: bool

    @classmethod
    async def load(cls, tokenizer_json: str, threads: TokenizerThreads) -> "Tokenizer":
        """Raises TokenizerFailed."""
        library = await threads.run(lambda: _load(tokenizer_json))
        return cls(library, threads, is_byte_level="ByteLevel" in repr(library.decoder))

    async def encode(self, text: str) -> tuple[int, ...]:
        """Raises TokenizerFailed, Unavailable."""
        return await self.threads.run(
            lambda: tuple(self.library.encode(text, add_special_tokens=False).ids)
        )

    def decode(self, ids: Sequence[int]) -> str:
        return self.library.decode(ids, skip_special_tokens=True)

    def token_bytes(self, token_id: int) -> bytes:
        """One token alone, special ones too; perhaps a part of a character."""
        piece = self.library.id_to_token(token_id) or ""
        text = self.library.decode([token_id], skip_special_tokens=False)
        return token_bytes(piece, text, is_byte_level=self.is_byte_level)


def _load(tokenizer_json: str) -> LibraryTokenizer:
    library = LibraryTokenizer.from_str(tokenizer_json)
    library.no_truncation()
    library.no_padding()
    return library
