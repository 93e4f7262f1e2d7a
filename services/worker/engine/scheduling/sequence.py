"""A request while the engine works on it. Plain state, no torch."""

from dataclasses import dataclass, field

from libs.common.states import FinishReason
from services.worker.engine.scheduling.regions import Region
from services.worker.engine_port import Request


@dataclass(eq=False)
class Sequence:
    """Tokens known so far, how many of them have their keys and values cached, and where."""

    request: Request
    max_num_tokens: int  # prompt and output together: the request's limit or the context's
    arrival: int  # grows with each request; older ones win
    token_ids: list[int] = field(init=False)
    num_preemptions: int = 0
    num_computed: int = 0  # tokens whose keys and values are cached on every stage
    num_launched: int = field(init=False)  # those, and the tokens of steps that are not back yet
    region: Region | None = None  # None while waiting

    def __post_init__(self) -> None:
        self.token_ids = [*self.request.prompt_ids, *self.request.generated_ids]
        self.num_launched = self.num_computed

    def restart(self) -> None:
        """Nothing of it is cached any more."""
        self.num_computed = self.num_launched = 0
        self.num_preemptions += 1

    @property
    def num_generated(self) -> int:
        """Over all attempts; the index of the next token."""
        return len(self.token_ids) - len(self.request.prompt_ids)

    @property
    def num_pending(self) -> int:
        """Tokens that must be launched before the next one can be sampled."""
        return len(self.token_ids) - self.num_launched

    @property
    def is_decoding(self) -> bool:
        return len(self.token_ids) - self.num_computed == 1

    @property
    def is_in_flight(self) -> bool:
        """Part of a step that has not come back."""
        return self.num_launched > self.num_computed

    def finish_reason(self, eos_token_ids: frozenset[int]) -> FinishReason | None:
        """Why nothing may follow the last token, if so."""
        sampling = self.request.sampling
        if self.num_generated > 0:
            last = self.token_ids[-1]
            if last in sampling.stop_token_ids:
                return FinishReason.STOP
            if last in eos_token_ids and not sampling.ignore_eos:
                return FinishReason.STOP
        if len(self.token_ids) >= self.max_num_tokens:
            return FinishReason.LENGTH
        return None
