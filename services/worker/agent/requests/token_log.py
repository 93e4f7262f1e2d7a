"""The tokens of an endpoint's requests, kept until the gateway has acknowledged their end.

The bus may lose a message, so what was published can be asked for again by index. A request is one
(request id, attempt): a newer attempt replaces an older one, an ended pair never starts again.
Pure: the caller brings the time.
"""

from array import array
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from libs.common.bus.messages import TokensGenerated, UnacknowledgedEnd
from libs.common.states import FinishReason
from services.worker.agent.requests.logprob_columns import LogprobColumns
from services.worker.agent.requests.token_times import TokenTimes

KEEP_FINISHED_S = 60.0  # from the end, or from when somebody last asked for it
MAX_FINISHED = 256  # unacknowledged ends; the one that was longest of no use goes first
MAX_ENDED = 4096  # remembered (request id, attempt) pairs that must not start again
UNACKNOWLEDGED_S = 2.0  # from the end; a gateway that lives has acknowledged it long before
RESEND_TOKENS = 256  # per message: with 20 log-probabilities each about 200 KB


@dataclass
class RequestLog:
    """One attempt of one request at this endpoint."""

    request_id: str
    attempt: int
    start_index: int  # tokens that earlier attempts generated
    deadline_s: float  # monotonic
    ids: "array[int]" = field(default_factory=lambda: array("I"))
    logprobs: LogprobColumns = field(default_factory=LogprobColumns)  # empty, or one per id
    finish: FinishReason | None = None
    error: str | None = None
    wanted_at_s: float | None = None  # once it is finished: when it ended or was last asked for
    times: TokenTimes = field(default_factory=TokenTimes)
    num_unread: int = 0  # tokens that came after its gateway was last heard
    opened_at_s: float | None = None  # monotonic; None: nobody wants to know times
    first_token_ms: int | None = None  # since then; None before there is one
    finish_ms: int | None = None

    @property
    def next_index(self) -> int:
        return self.start_index + len(self.ids)

    @property
    def is_finished(self) -> bool:
        return self.finish is not None

    def note_unread_since(self, moment_s: float) -> None:
        """Its gateway is lost: what has come since then reached nobody."""
        num_ids = len(self.ids)
        self.num_unread = num_ids - self.times.num_at(moment_s, num_ids)

    def part(self, first: int, last: int) -> TokensGenerated:
        """Tokens [first, last) counted from this attempt's start; with the end if they reach it."""
        is_end = last >= len(self.ids)
        return TokensGenerated(
            request_id=self.request_id,
            attempt=self.attempt,
            start_index=self.start_index + first,
            ids=tuple(self.ids[first:last]),
            logprobs=self.logprobs.part(first, last) if self.logprobs else None,
            finish=self.finish if is_end else None,
            error=self.error if is_end else None,
            first_token_ms=self.first_token_ms if first == 0 else None,
            finish_ms=self.finish_ms if is_end else None,
        )

    def timed(self, tokens: TokensGenerated) -> TokensGenerated:
        """As it was appended, with what is told of the first and of the last tokens."""
        is_first = tokens.start_index == self.start_index
        if not is_first and tokens.finish is None:
            return tokens
        times = {
            "first_token_ms": self.first_token_ms if is_first else None,
            "finish_ms": self.finish_ms if tokens.finish is not None else None,
        }
        return tokens.model_copy(update=times)

    def ms_at(self, now_s: float) -> int | None:
        """Since it was taken."""
        opened_at_s = self.opened_at_s
        return None if opened_at_s is None else max(0, round(1000 * (now_s - opened_at_s)))


class TokenLog:
    def __init__(self) -> None:
        self._requests: dict[str, RequestLog] = {}
        self._ended: OrderedDict[tuple[str, int], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def num_unfinished(self) -> int:
        return sum(not request.is_finished for request in self._requests.values())

    def unfinished(self) -> tuple[RequestLog, ...]:
        return tuple(r for r in self._requests.values() if not r.is_finished)

    def find(self, request_id: str, attempt: int) -> RequestLog | None:
        request = self._requests.get(request_id)
        return request if request is not None and request.attempt == attempt else None

    def older_attempt(self, request_id: str, attempt: int) -> RequestLog | None:
        request = self._requests.get(request_id)
        return request if request is not None and request.attempt < attempt else None

    def has_ended(self, request_id: str, attempt: int) -> bool:
        """Whether this attempt, or a newer one, was already here: it must not start again."""
        request = self._requests.get(request_id)
        is_old = request is not None and request.attempt > attempt
        return is_old or (request_id, attempt) in self._ended

    def open(
        self,
        request_id: str,
        attempt: int,
        start_index: int,
        deadline_s: float,
        now_s: float | None = None,
    ) -> None:
        assert not self.has_ended(request_id, attempt)
        assert self.older_attempt(request_id, attempt) or request_id not in self._requests
        if older := self._requests.pop(request_id, None):
            self.mark_ended(older.request_id, older.attempt)
        self._requests[request_id] = RequestLog(
            request_id, attempt, start_index, deadline_s, opened_at_s=now_s
        )

    def append(self, tokens: TokensGenerated, now_s: float) -> bool:
        """Keep what the worker produced; False if it is not the continuation of a live request.

        Nor is it with a token id of 2**32 or more, which no vocabulary has.
        """
        request = self.find(tokens.request_id, tokens.attempt)
        if request is None or request.is_finished or tokens.start_index != request.next_index:
            return False
        if tokens.logprobs is not None and len(tokens.logprobs) != len(tokens.ids):
            return False
        if (tokens.logprobs is None) and request.logprobs and tokens.ids:
            return False
        try:
            ids, logprobs = array("I", tokens.ids), LogprobColumns(tokens.logprobs or ())
        except OverflowError:
            return False
        request.times.note(len(request.ids), now_s)
        if ids and not request.ids:
            request.first_token_ms = request.ms_at(now_s)
        request.ids.extend(ids)
        request.logprobs.extend(logprobs)
        if tokens.finish is not None:
            self._end(request, tokens.finish, tokens.error, now_s)
        return True

    def finish(
        self, request: RequestLog, reason: FinishReason, now_s: float, error: str | None = None
    ) -> TokensGenerated:
        """End a live request here and now; returns the message that says so."""
        assert not request.is_finished
        self._end(request, reason, error, now_s)
        return request.part(len(request.ids), len(request.ids))

    def since(
        self, request: RequestLog, from_index: int, now_s: float
    ) -> Iterator[TokensGenerated]:
        """Everything from an index on, in messages of at most RESEND_TOKENS tokens.

        Whoever asks still reads: what is finished is kept for another KEEP_FINISHED_S.
        """
        if request.is_finished:
            request.wanted_at_s = now_s
        return self._parts(request, from_index)

    def _parts(self, request: RequestLog, from_index: int) -> Iterator[TokensGenerated]:
        first = max(0, from_index - request.start_index)
        while first < len(request.ids) or (request.is_finished and first == len(request.ids)):
            last = min(first + RESEND_TOKENS, len(request.ids))
            yield request.part(first, last)
            if last == len(request.ids):
                return
            first = last

    def unacknowledged(self, now_s: float) -> Iterator[UnacknowledgedEnd]:
        """Ends that nobody has asked for or acknowledged for UNACKNOWLEDGED_S."""
        for request in self._requests.values():
            if request.wanted_at_s is not None and now_s - request.wanted_at_s >= UNACKNOWLEDGED_S:
                yield UnacknowledgedEnd(
                    request_id=request.request_id,
                    attempt=request.attempt,
                    num_generated_tokens=request.next_index - request.num_unread,
                )

    def forget(self, request_id: str, attempt: int) -> bool:
        """Drop a request's tokens; True if it was here."""
        request = self.find(request_id, attempt)
        if request is None:
            return False
        del self._requests[request_id]
        self.mark_ended(request_id, attempt)
        return True

    def mark_ended(self, request_id: str, attempt: int) -> None:
        """Remember that this attempt must not start (again) here."""
        self._ended[(request_id, attempt)] = None
        while len(self._ended) > MAX_ENDED:
            self._ended.popitem(last=False)

    def expire(self, now_s: float) -> None:
        """Drop ends that nobody acknowledges nor asks for any more, or that are too many."""
        finished = sorted(
            (r for r in self._requests.values() if r.wanted_at_s is not None),
            key=lambda r: r.wanted_at_s or 0.0,
        )
        for position, request in enumerate(finished):
            is_over_limit = len(finished) - position > MAX_FINISHED
            if is_over_limit or now_s - (request.wanted_at_s or 0.0) >= KEEP_FINISHED_S:
                self.forget(request.request_id, request.attempt)

    def _end(
        self, request: RequestLog, reason: FinishReason, error: str | None, now_s: float
    ) -> None:
        request.finish, request.error, request.wanted_at_s = reason, error, now_s
        request.finish_ms = request.ms_at(now_s)
