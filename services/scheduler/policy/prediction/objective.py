"""What a start is planned for: the targets of its model, and what is known of the model. Pure."""

from dataclasses import dataclass
from math import inf

from services.scheduler.policy.prediction.predictor import ModelSpeed

NOTHING_MEASURED = ModelSpeed(prefill_s=0.0, step_s=0.0, hop_s=0.0)


@dataclass(frozen=True)
class Objective:
    """The cheapest plan that meets both targets is wanted; if none does, the soonest.

    With a target of 0 s none does, so the soonest is wanted.
    """

    ttft_s: float = 0.0
    tpot_s: float = inf
    waited_s: float = 0.0  # by the request that has waited longest
    speed: ModelSpeed = NOTHING_MEASURED
    serving_s: float = 300.0  # how long the endpoint is expected to hold its memory once it serves
    num_endpoints: int = 1  # that the queue needs: a consolidated pipeline can become several
    can_consolidate: bool = False  # or a pipeline stays what it is for as long as it serves
    prefers_cached_copies: bool = False  # one worker, where most of the model is
    # Measured over predicted time to the first token, of earlier starts.
    correction: float = 1.0


SOONEST = Objective()
