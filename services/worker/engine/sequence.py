"""A request while the engine works on it. Plain state, no torch."""

from dataclasses import dataclass, field

from libs.common.states import FinishReason
from services.worker.engine.regions import Region
from services.worker.engine.request import Request


@dataclass(eq=False)
class Sequence:
    """Tokens known so far, how many of them have their keys and values cached, and where."""

    request: Request
    max_num_tokens: int  # prompt and output together: the request's limit or the context's
    arrival: int  # grows with each request; older ones win
    token_ids: list[int] = field(init=False)
    num_computed: int = 0  # tokens whose keys and values are cached
    region: Region | None = None  # None while waiting
    is_in_flight: bool = False  # part of a step that has not come back

    def __post_init__(self) -> None:
        self.token_ids = [*self.request.prompt_ids, *self.request.generated_ids]

    @property
    def num_generated(self) -> int:
        """Over all attempts; the index of the next token."""
        return len(self.token_ids) - len(self.request.prompt_ids)

    @property
    def num_pending(self) -> int:
        """Tokens that must be computed before the next one can be sampled."""
        return len(self.token_ids) - self.num_computed

    @property
    def is_decoding(self) -> bool:
        return self.num_pending == 1

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
