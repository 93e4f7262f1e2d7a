"""The tokens that one request has generated so far, over all its attempts. Pure.

Messages may be lost, repeated, late, or of an attempt that was given up. The log takes only what
continues it, so whoever sees `has_gap` asks for a resend from `next_index`.
"""

from dataclasses import dataclass, field
from enum import Enum

from libs.common.bus.messages import Logprob, TokensGenerated
from libs.common.states import FinishReason

_ENTRY_BYTES = 64  # a Python number and its share of a container, roughly


class OfferResult(Enum):
    """What became of a message that was offered to the log."""

    TAKEN = "taken"  # it continued the log
    KNOWN = "known"  # nothing new in it
    STALE = "stale"  # of another attempt
    GAP = "gap"  # something before it is missing; dropped
    FULL = "full"  # the client reads too slowly; dropped


@dataclass(frozen=True)
class TokenBatch:
    """Generated tokens that nobody has read yet; `logprobs` is as long as `ids`, or None."""

    start_index: int
    ids: tuple[int, ...]
    logprobs: tuple[Logprob, ...] | None


@dataclass
class TokenLog:
    """Counts tokens over all attempts; `ids` is what a resubmission sends along."""

    max_unread_tokens: int
    max_unread_bytes: int
    attempt: int = 1
    ids: list[int] = field(default_factory=list)
    finish: FinishReason | None = None
    error: str | None = None
    has_gap: bool = False
    num_read: int = 0
    _num_wanted: int | None = None  # by the client, once that is known
    _logprobs: list[Logprob] = field(default_factory=list)
    _unread_bytes: int = 0

    @property
    def next_index(self) -> int:
        return len(self.ids)

    @property
    def num_unread(self) -> int:
        return len(self.ids) - self.num_read

    @property
    def num_given(self) -> int:
        """Of the tokens read, those that the client got."""
        return self.num_read if self._num_wanted is None else self._num_wanted

    def cut(self, num_tokens: int) -> None:
        """The answer is whole with its first so many tokens; others may have been read since."""
        assert num_tokens <= self.num_read
        self._num_wanted = num_tokens

    @property
    def is_full(self) -> bool:
        return (
            self.num_unread >= self.max_unread_tokens or self._unread_bytes >= self.max_unread_bytes
        )

    def begin_attempt(self, attempt: int) -> None:
        """What the earlier attempts made stays; what they still send is stale."""
        assert attempt > self.attempt
        self.attempt = attempt
        self.has_gap = False

    def offer(self, message: TokensGenerated) -> OfferResult:
        if message.attempt != self.attempt:
            return OfferResult.STALE
        end_index = message.start_index + len(message.ids)
        if self.finish is not None or (end_index <= self.next_index and message.finish is None):
            return OfferResult.KNOWN
        if message.start_index > self.next_index:
            self.has_gap = True
            return OfferResult.GAP
        if self.is_full and end_index > self.next_index:
            self.has_gap = True
            return OfferResult.FULL
        self._take(message, min(len(message.ids), self.next_index - message.start_index))
        return OfferResult.TAKEN

    def _take(self, message: TokensGenerated, num_known: int) -> None:
        self.ids.extend(message.ids[num_known:])
        if message.logprobs is not None:
            self._logprobs.extend(message.logprobs[num_known:])
        self._unread_bytes += _size_bytes(message, num_known)
        self.finish, self.error = message.finish, message.error
        self.has_gap = False

    def conclude(self, max_tokens: int, stop_token_ids: tuple[int, ...]) -> bool:
        """Finish what is complete though its finish never came; whether it is finished."""
        if self.finish is None and self.ids and self.ids[-1] in stop_token_ids:
            self.finish = FinishReason.STOP
        elif self.finish is None and self.next_index >= max_tokens:
            self.finish = FinishReason.LENGTH
        return self.finish is not None

    def read(self) -> TokenBatch | None:
        """Everything unread, once; None when there is nothing."""
        if self.num_unread == 0:
            return None
        start, self.num_read, self._unread_bytes = self.num_read, len(self.ids), 0
        ids = tuple(self.ids[start:])
        logprobs = tuple(self._logprobs)
        self._logprobs.clear()
        return TokenBatch(start, ids, logprobs if len(logprobs) == len(ids) else None)


def _size_bytes(message: TokensGenerated, num_known: int) -> int:
    entries = len(message.ids) - num_known
    entries += sum(1 + 2 * len(entry.top) for entry in (message.logprobs or ())[num_known:])
    return entries * _ENTRY_BYTES
