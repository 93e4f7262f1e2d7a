"""What a part of a request's time went to, and which of it took longest. Pure."""

from dataclasses import dataclass

from libs.common.states import SloMiss
from services.gateway.slo.engine_clock import EngineTimes
from services.gateway.slo.wait_log import WaitFor, WaitLog


@dataclass(frozen=True)
class LatencyParts:
    """Seconds; together they are all of it."""

    queue_s: float = 0.0
    weights_s: float = 0.0  # of a start: while weights were on their way
    start_s: float = 0.0  # the rest of it
    prefill_s: float = 0.0
    decode_s: float = 0.0
    delivery_s: float = 0.0  # of request and tokens between here and the worker

    @property
    def largest(self) -> SloMiss:
        """A start counts whole, and is the network's where the weights took most of it. Of parts
        that are equal the earlier one."""
        has_late_weights = self.weights_s > self.start_s
        candidates = (
            (SloMiss.QUEUE, self.queue_s),
            (
                SloMiss.NETWORK if has_late_weights else SloMiss.COLD_START,
                self.weights_s + self.start_s,
            ),
            (SloMiss.PREFILL, self.prefill_s),
            (SloMiss.ENGINE, self.decode_s),
            (SloMiss.NETWORK, self.delivery_s),
        )
        return max(candidates, key=lambda candidate: candidate[1])[0]


def parts_of_first_token(
    waits: WaitLog, engine: EngineTimes, from_s: float, until_s: float
) -> LatencyParts:
    """Of the time to the first token. What the agent did not have of the time in which an endpoint
    had the request, that and the token were on their way; with an endpoint that started meanwhile
    nobody can tell the one from the other."""
    spent = waits.seconds(from_s, until_s)
    start_s, weights_s = spent[WaitFor.START], spent[WaitFor.WEIGHTS]
    served_s, told_s = spent[WaitFor.ENGINE], engine.first_token_s
    is_known = told_s is not None and start_s + weights_s == 0
    prefill_s = min(served_s, told_s) if told_s is not None and is_known else served_s
    return LatencyParts(
        queue_s=spent[WaitFor.ENDPOINT],
        weights_s=weights_s,
        start_s=start_s,
        prefill_s=prefill_s,
        delivery_s=served_s - prefill_s,
    )


def parts_of_later_tokens(
    waits: WaitLog, engine: EngineTimes, from_s: float, until_s: float
) -> LatencyParts:
    """Of the time after it, with other endpoints where the first one was lost."""
    spent = waits.seconds(from_s, until_s)
    served_s, told_s = spent[WaitFor.ENGINE], engine.later_tokens_s
    decode_s = served_s if told_s is None else min(served_s, told_s)
    return LatencyParts(
        queue_s=spent[WaitFor.ENDPOINT],
        weights_s=spent[WaitFor.WEIGHTS],
        start_s=spent[WaitFor.START],
        decode_s=decode_s,
        delivery_s=served_s - decode_s,
    )
