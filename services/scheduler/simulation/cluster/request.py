"""A request on its way: what it asks for, and what has become of it."""

from libs.common.reasons import Reason


class SimulatedRequest:
    """Times are virtual seconds; None: not yet."""

    __slots__ = (
        "arrived_at_s",
        "attempt",
        "end_reason",
        "ended_at_s",
        "first_token_at_s",
        "group",
        "index",
        "is_cold",
        "model_id",
        "num_output_tokens",
        "num_prompt_tokens",
    )

    def __init__(
        self,
        index: int,
        group: str,
        model_id: str,
        arrived_at_s: float,
        num_prompt_tokens: int,
        num_output_tokens: int,
    ) -> None:
        self.index = index
        self.group = group  # of models, in the scenario
        self.model_id = model_id
        self.arrived_at_s = arrived_at_s
        self.num_prompt_tokens = num_prompt_tokens
        self.num_output_tokens = num_output_tokens  # at least one
        self.attempt = 1
        self.is_cold = False  # it waited for an endpoint that was not serving when it came
        self.first_token_at_s: float | None = None
        self.ended_at_s: float | None = None
        self.end_reason: Reason | None = None  # why it was not served

    @property
    def id(self) -> str:
        return f"request-{self.index}"

    @property
    def ttft_s(self) -> float | None:
        first_at_s = self.first_token_at_s
        return None if first_at_s is None else first_at_s - self.arrived_at_s

    @property
    def tpot_s(self) -> float | None:
        """Of the tokens after the first; None where there is none."""
        if self.first_token_at_s is None or self.ended_at_s is None or self.num_output_tokens < 2:
            return None
        return (self.ended_at_s - self.first_token_at_s) / (self.num_output_tokens - 1)
