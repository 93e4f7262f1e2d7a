"""Whether a request met its model's SLO, and why it did not. Pure.

TTFT is from the request's arrival here to its first token here; TPOT is the mean time of a token
after the first. The reason of a miss is what took longest: of the time to the first token if that
came too late, else of the time from the first to the last.
"""

from dataclasses import dataclass, field

from libs.common.states import RequestOutcome, SloMiss
from services.gateway.slo.engine_clock import EngineTimes
from services.gateway.slo.latency_parts import parts_of_first_token, parts_of_later_tokens
from services.gateway.slo.wait_log import WaitLog

_SUCCESSES = (RequestOutcome.STOP, RequestOutcome.LENGTH)
# Whoever left, and whoever was still there at the deadline, may have waited for too long.
_UNFINISHED = (RequestOutcome.CANCELLED, RequestOutcome.DEADLINE)


@dataclass(frozen=True)
class SloTargets:
    ttft_ms: int
    tpot_ms: int


@dataclass(frozen=True)
class Moments:
    """Of a request that has ended: monotonic seconds here, and what they went to."""

    arrived_s: float
    first_token_s: float | None
    last_token_s: float | None
    ended_s: float
    num_tokens: int
    waits: WaitLog = field(default_factory=WaitLog)
    engine: EngineTimes = field(default_factory=EngineTimes)

    @property
    def ttft_ms(self) -> float | None:
        return _ms(self.arrived_s, self.first_token_s)

    @property
    def tpot_ms(self) -> float | None:
        """None for less than two tokens."""
        later_ms = _ms(self.first_token_s, self.last_token_s)
        return None if later_ms is None or self.num_tokens < 2 else later_ms / (self.num_tokens - 1)


@dataclass(frozen=True)
class SloResult:
    is_met: bool | None  # None where nobody can tell: the client left while it was not late yet
    miss: SloMiss | None  # why it was not met
    ttft_ms: float | None
    tpot_ms: float | None


def judge(targets: SloTargets, outcome: RequestOutcome, moments: Moments) -> SloResult:
    """No request that failed meets its SLO; only that of a deadline is a matter of time."""
    miss = _miss(targets, outcome, moments)
    is_unknown = outcome is RequestOutcome.CANCELLED and moments.first_token_s is None
    is_met = None if miss is None and is_unknown else miss is None
    return SloResult(is_met, miss, moments.ttft_ms, moments.tpot_ms)


def _miss(targets: SloTargets, outcome: RequestOutcome, moments: Moments) -> SloMiss | None:
    if outcome not in (*_SUCCESSES, *_UNFINISHED):
        return SloMiss.FAILED
    if moments.first_token_s is None and outcome in _SUCCESSES:
        return None  # an empty answer, and whole
    is_deadline = outcome is RequestOutcome.DEADLINE
    first_s = moments.ended_s if moments.first_token_s is None else moments.first_token_s
    is_first_late = 1000 * (first_s - moments.arrived_s) > targets.ttft_ms
    if is_first_late or (is_deadline and moments.first_token_s is None):
        parts = parts_of_first_token(moments.waits, moments.engine, moments.arrived_s, first_s)
        return parts.largest
    if is_deadline or (moments.tpot_ms or 0.0) > targets.tpot_ms:
        last_s = moments.ended_s if is_deadline else moments.last_token_s or first_s
        return parts_of_later_tokens(moments.waits, moments.engine, first_s, last_s).largest
    return None


def _ms(start_s: float | None, end_s: float | None) -> float | None:
    return None if start_s is None or end_s is None else 1000 * (end_s - start_s)
