"""One running request as its HTTP handler sees it: events until it ends, and how it ended."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from libs.common.bus.messages import RequestProgressed
from libs.common.states import FinishReason, RequestOutcome
from services.gateway.errors import ApiError
from services.gateway.generation.dispatch import Dispatch
from services.gateway.generation.request_inbox import RequestInbox
from services.gateway.generation.token_log import TokenBatch


@dataclass(frozen=True)
class Progress:
    """Something to tell a waiting client; `latest` is None as long as there is nothing new."""

    latest: RequestProgressed | None
    awaits_start: bool  # before the first token, and when the scheduler is at it again


@dataclass(frozen=True)
class Finished:
    reason: FinishReason  # STOP or LENGTH


Event = TokenBatch | Progress | Finished


class GenerationStream:
    """Tokens and progress of one request. `task` runs `dispatch`; whoever made this ends both."""

    def __init__(self, dispatch: Dispatch, task: "asyncio.Task[None]", progress_s: float) -> None:
        self._dispatch, self._task, self._progress_s = dispatch, task, progress_s
        self._inbox = dispatch.inbox
        self._aborted: ApiError | None = None
        self.error: ApiError | None = None  # which the client was or will be told
        self.outcome = RequestOutcome.CANCELLED  # unless something else ends it first
        task.add_done_callback(lambda _task: self._wake())

    @property
    def inbox(self) -> RequestInbox:
        return self._inbox

    async def opened(self) -> None:
        """Returns once somebody accepted the request. Raises ApiError when nobody does."""
        while not self._dispatch.is_opened:
            self._raise_if_failed()
            await self._dispatch.opened.wait(self._progress_s)

    async def events(self) -> AsyncIterator[Event]:
        """Tokens and progress, then Finished. Raises ApiError. Something comes at least every
        `progress_s`, so that whoever forwards it notices a dead connection."""
        told: RequestProgressed | None = None
        awaits_start = True
        while True:
            batch = self._inbox.log.read()
            if batch is not None:
                awaits_start = False
                self._inbox.changed.notify()  # there is room again
                yield batch
                continue
            self._raise_if_failed()
            if self._task.done():
                yield self._finished()
                return
            if self._inbox.progress is told and await self._is_quiet(told):
                yield Progress(told, awaits_start)
            elif self._inbox.progress is not told:
                told, awaits_start = self._inbox.progress, True
                yield Progress(told, awaits_start)

    def remaining_s(self) -> float:
        """Of the request's deadline; it may have passed."""
        return self._dispatch.remaining_s()

    def stopped(self, num_tokens: int) -> None:
        """A stop string was found: with so many tokens the client has its whole answer, and the
        worker goes on in vain."""
        self.outcome = RequestOutcome.STOP
        self._inbox.log.cut(num_tokens)

    def failed(self, error: ApiError) -> None:
        """The client is told of an error, wherever it arose."""
        self.error, self.outcome = error, error.outcome

    def settle(self) -> None:
        """Once it is over: what broke it counts, even if nobody was left to be told."""
        if self.error is None and self._task.done() and not self._task.cancelled():
            exc = self._task.exception()
            if isinstance(exc, ApiError):
                self.failed(exc)

    async def until_broken(self) -> None:
        """Returns when the dispatch failed; never otherwise. A reader learns it from `events`,
        unless it is stuck in sending."""
        await asyncio.wait([self._task])
        if not self._task.cancelled() and self._task.exception() is None:
            await asyncio.get_running_loop().create_future()

    def abort(self, error: ApiError) -> None:
        """End it from outside; the client is told `error`."""
        self._aborted = error
        self._task.cancel()

    async def _is_quiet(self, told: RequestProgressed | None) -> bool:
        """Whether nothing at all happened for `progress_s`."""
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + self._progress_s
        while not (self._inbox.log.num_unread or self._task.done()):
            if self._inbox.progress is not told:
                return False
            if loop.time() >= ends_s:
                return True
            await self._inbox.changed.wait(ends_s - loop.time())
        return False

    def _finished(self) -> Finished:
        reason = self._inbox.log.finish
        assert reason is not None, "the dispatch ends with a finish or raises"
        self.outcome = RequestOutcome(reason.value)
        return Finished(reason)

    def _raise_if_failed(self) -> None:
        error = self._aborted
        if error is None and self._task.done() and not self._task.cancelled():
            exc = self._task.exception()
            if exc is not None and not isinstance(exc, ApiError):
                raise exc
            error = exc
        if error is not None:
            raise error

    def _wake(self) -> None:
        self._dispatch.opened.notify()
        self._inbox.changed.notify()
