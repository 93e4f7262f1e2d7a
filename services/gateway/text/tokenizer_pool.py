"""Loads tokenizers and encodes with them, in child processes."""

import json
from array import array
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self

from libs.common.reasons import Reason
from libs.common.tokenizers.prompt_bound import PromptBound
from services.gateway.children.child_pool import Child, ChildPool
from services.gateway.children.child_process import ChildCommand
from services.gateway.errors import ChildFailed, NotServed, TokenizerFailed, TokenizerOverrun
from services.gateway.fair_semaphore import FairSemaphore
from services.gateway.text.control_token_guard import ControlTokenGuard
from services.gateway.text.vocabulary import Vocabulary

LONG_CHARS = 2**16  # of a text whose tokenizing may take long, and
LONG_CPU_S = 0.25  # what a shorter one takes only of a tokenizer that is made to be slow
_MAX_SLOW = 4_096  # are remembered
CALL_TIMEOUT_S = 60.0  # wall time; the child's CPU limit usually comes first
_LOADING = ""  # instead of a tenant: whoever asks first loads for all
_MAX_REPLY_BYTES = 2**28
_WORKING_BYTES = 3 * 2**28  # what a prompt of 6 MiB may take while it is encoded, about
_BYTES_PER_KEPT_BYTE = 12  # of memory that a loaded tokenizer takes, per byte of its file
# The library would start threads, with a stack of memory each.
_ENVIRONMENT = (("TOKENIZERS_PARALLELISM", "false"),)


@dataclass(frozen=True)
class TokenizerSource:
    """A tokenizer.json. `key` names its content."""

    key: str
    data: bytes


@dataclass(frozen=True)
class TokenizerFacts:
    """`is_vetted`: it may run beside other tenants' tokenizers."""

    vocabulary: Vocabulary
    special_texts: tuple[str, ...]
    prefix_ids: tuple[int, ...]  # what it puts before a text, as the model was trained
    bound: PromptBound | None
    is_vetted: bool

    @cached_property
    def special_initials(self) -> frozenset[str]:
        return frozenset(text[0] for text in self.special_texts)


class TokenizerService(Protocol):
    """Tests run the child's own code in their process."""

    async def load(self, source: TokenizerSource) -> TokenizerFacts:
        """Raises TokenizerFailed, NotServed."""

    async def encode(
        self,
        source: TokenizerSource,
        text: str,
        guard: ControlTokenGuard | None,
        *,
        tenant: str,
        is_vetted: bool,
    ) -> "array[int]":
        """Raises TokenizerFailed, NotServed."""


class TokenizerPool:
    """Tokenizers of known kinds share some processes, all others one: what somebody's own regular
    expression takes of time, only others of the kind wait for.

    What takes long leaves one of the shared processes to what does not, where there are several.
    """

    def __init__(self, num_processes: int, max_kept_bytes: int) -> None:
        self._vetted = _pool(num_processes, max_kept_bytes, vetted_only=True)
        self._others = _pool(1, max_kept_bytes, vetted_only=False)  # started when needed
        self._long_turns = _semaphore(max(1, num_processes - 1))
        # Tokenizers that took long for a short text, the ones found last.
        self._slow: OrderedDict[str, None] = OrderedDict()

    async def __aenter__(self) -> Self:
        self._vetted.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._vetted.close()
        await self._others.close()

    async def pids(self) -> list[int]:
        """Of the processes for tokenizers of known kinds."""
        return await self._vetted.pids()

    async def load(self, source: TokenizerSource) -> TokenizerFacts:
        facts = await self._load(self._vetted, source, is_vetted=True)
        if facts is None:
            facts = await self._load(self._others, source, is_vetted=False)
        assert facts is not None, "the others' process loads whatever is not harmful"
        return facts

    async def _load(
        self, pool: ChildPool, source: TokenizerSource, *, is_vetted: bool
    ) -> TokenizerFacts | None:
        """None for one that is not of a known kind."""
        async with pool.child(_LOADING) as child:
            reply = await _load_in(child, source)
        if reply.header.get("is_vetted") is False:
            return None
        return facts_of(reply, is_vetted=is_vetted)

    async def encode(
        self,
        source: TokenizerSource,
        text: str,
        guard: ControlTokenGuard | None,
        *,
        tenant: str,
        is_vetted: bool,
    ) -> "array[int]":
        request = encode_request(source.key, text, guard)
        pool = self._vetted if is_vetted else self._others
        is_short = len(text) < LONG_CHARS
        is_quick = not is_vetted or (is_short and source.key not in self._slow)
        try:
            async with (
                nullcontext() if is_quick else self._long_turn(tenant),
                pool.child(tenant, lambda child: source.key in child.held) as child,
            ):
                reply = await _encoded_in(child, source, request)
        except TokenizerOverrun:
            self._note_slow(source, is_short)
            raise
        self._note_slow(source, is_short and reply.header["cpu_s"] > LONG_CPU_S)
        return ids_of(reply)

    def _note_slow(self, source: TokenizerSource, is_slow: bool) -> None:
        if not is_slow:
            return
        self._slow[source.key] = None
        if len(self._slow) > _MAX_SLOW:
            self._slow.popitem(last=False)

    @asynccontextmanager
    async def _long_turn(self, tenant: str) -> AsyncIterator[None]:
        await self._long_turns.acquire(tenant)
        try:
            yield
        finally:
            self._long_turns.release()


def _pool(num_processes: int, max_kept_bytes: int, *, vetted_only: bool) -> ChildPool:
    max_memory_bytes = _WORKING_BYTES + _BYTES_PER_KEPT_BYTE * max_kept_bytes
    command = ChildCommand(
        Path(__file__).with_name("tokenizer_child.py"),
        arguments=(str(max_kept_bytes), str(max_memory_bytes), str(int(vetted_only))),
        environment=_ENVIRONMENT,
        max_reply_bytes=_MAX_REPLY_BYTES,
    )
    return ChildPool(command, num_processes, _semaphore(num_processes))


def _semaphore(num_permits: int) -> FairSemaphore:
    return FairSemaphore(
        num_permits,
        what="prompts are tokenized",
        reason=Reason.TOKENIZER_BUSY,
        max_wait_s=None,
        max_waiting=None,
    )


@dataclass(frozen=True)
class Reply:
    header: dict[str, Any]
    body: bytes

    @classmethod
    def parse(cls, data: bytes) -> "Reply":
        """Raises TokenizerFailed with what the child says is wrong."""
        header, _, body = data.partition(b"\n")
        reply = cls(json.loads(header), body)
        if "cause" in reply.header:
            kind = TokenizerOverrun if reply.header.get("is_overrun") else TokenizerFailed
            raise kind(f"the tokenizer failed: {reply.header['cause']}")
        return reply


def load_request(source: TokenizerSource) -> bytes:
    return json.dumps({"do": "load", "key": source.key}).encode() + b"\n" + source.data


def encode_request(key: str, text: str, guard: ControlTokenGuard | None) -> bytes:
    """Raises TokenizerFailed for what is no text."""
    values = None if guard is None else guard.as_values()
    header = json.dumps({"do": "encode", "key": key, "guard": values}).encode()
    try:
        return header + b"\n" + text.encode()
    except UnicodeEncodeError as exc:
        raise TokenizerFailed("the prompt has half of a surrogate pair") from exc


def facts_of(reply: Reply, *, is_vetted: bool) -> TokenizerFacts:
    bound = reply.header["bound"]
    return TokenizerFacts(
        Vocabulary(reply.header, reply.body),
        tuple(reply.header["special_texts"]),
        tuple(reply.header["prefix_ids"]),
        None if bound is None else PromptBound(**bound),
        is_vetted,
    )


def ids_of(reply: Reply) -> "array[int]":
    """Four bytes each: millions of Python's numbers would take a tenth of a second."""
    ids = array("I")
    ids.frombytes(reply.body)
    return ids


async def _load_in(child: Child, source: TokenizerSource) -> Reply:
    reply = await _ask(child, load_request(source))
    child.held.add(source.key)
    return reply


async def _encoded_in(child: Child, source: TokenizerSource, request: bytes) -> Reply:
    reply = await _ask(child, request)
    if reply.header.get("is_loaded") is False:
        await _load_in(child, source)
        reply = await _ask(child, request)
    return reply


async def _ask(child: Child, request: bytes) -> Reply:
    try:
        return Reply.parse(await child.exchange(request, CALL_TIMEOUT_S))
    except ChildFailed as exc:
        if exc.is_own_fault:
            raise TokenizerOverrun(f"the tokenizer failed: {exc}") from exc
        message = f"prompts cannot be tokenized now: {exc}"
        raise NotServed(message, Reason.TOKENIZER_BUSY) from exc
