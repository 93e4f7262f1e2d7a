"""How long an endpoint worked on a request, as its agent tells with the tokens. Pure."""

from dataclasses import dataclass

from libs.common.bus.messages import TokensGenerated


@dataclass(frozen=True)
class EngineTimes:
    """By the agent's clock; None: not told, or of several attempts."""

    first_token_s: float | None = None  # from when it took the request to the first token
    later_tokens_s: float | None = None  # from the first token to the end


@dataclass
class EngineClock:
    """Hears every message that continues the answer; a resent one may have both times."""

    _attempt: int | None = None  # of the first token
    _first_ms: int | None = None
    _finish_ms: int | None = None

    def hear(self, message: TokensGenerated) -> None:
        if message.first_token_ms is not None and message.start_index == 0:
            self._attempt, self._first_ms = message.attempt, message.first_token_ms
        if message.finish_ms is not None and message.attempt == self._attempt:
            self._finish_ms = message.finish_ms

    @property
    def times(self) -> EngineTimes:
        if self._first_ms is None:
            return EngineTimes()
        if self._finish_ms is None:
            return EngineTimes(self._first_ms / 1000)
        return EngineTimes(self._first_ms / 1000, (self._finish_ms - self._first_ms) / 1000)
