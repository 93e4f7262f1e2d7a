"""What one request asks for: everything that is known before it is submitted anywhere."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from libs.common.bus.messages import Generate, SubmitRequest
from libs.common.sampling import SamplingParameters
from libs.common.token_ids import TokenIds
from services.gateway.auth import Caller

TIMEOUT_HEADER = "X-Request-Timeout-Ms"  # by which a client lowers its request's deadline


@dataclass(frozen=True)
class Loss:
    """The endpoint that an attempt was given up with."""

    endpoint_id: str
    was_taken: bool  # it had the request for certain: it accepted, or sent tokens
    has_progressed: bool = False  # it sent tokens


@dataclass(frozen=True)
class Job:
    """Moments are this process's monotonic seconds; messages carry what remains of them."""

    request_id: str
    gateway_id: str
    caller: Caller
    model_id: str
    slo_ttft_ms: int
    slo_tpot_ms: int
    prompt_ids: Sequence[int]  # as compact as can be: thousands of jobs may wait
    sampling: SamplingParameters
    arrived_s: float
    deadline_s: float

    def release_prompt(self) -> None:
        """Once it has ended. Exceptions and the frames that they passed hold each other, and with
        them the job, until the next full garbage collection, which may be minutes away."""
        if isinstance(self.prompt_ids, array):
            del self.prompt_ids[:]

    @property
    def timeout_s(self) -> float:
        """Of the whole request."""
        return self.deadline_s - self.arrived_s

    def remaining_ms(self, now_s: float) -> int:
        return max(1, int(1000 * (self.deadline_s - now_s)))

    def submission(self, attempt: int, loss: Loss | None, now_s: float) -> SubmitRequest:
        return SubmitRequest(
            request_id=self.request_id,
            tenant=self.caller.tenant,
            gateway_id=self.gateway_id,
            model_id=self.model_id,
            attempt=attempt,
            num_prompt_tokens=len(self.prompt_ids),
            max_tokens=self.sampling.max_tokens,
            remaining_ms=self.remaining_ms(now_s),
            lost_endpoint_id=None if loss is None else loss.endpoint_id,
            was_taken=loss is None or loss.was_taken,
            has_progressed=loss is not None and loss.has_progressed,
        )

    def generate(
        self, endpoint_id: str, epoch: int, attempt: int, generated: Sequence[int], now_s: float
    ) -> Generate:
        return Generate(
            request_id=self.request_id,
            attempt=attempt,
            endpoint_id=endpoint_id,
            epoch=epoch,
            prompt_ids=TokenIds(self.prompt_ids),
            generated_ids=TokenIds(generated),
            sampling=self.sampling,
            remaining_ms=self.remaining_ms(now_s),
        )
