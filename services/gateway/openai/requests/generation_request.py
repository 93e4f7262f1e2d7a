"""What the requests of both completion APIs have in common."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.gateway.errors import InvalidRequest
from services.gateway.openai.requests.parameters import check_parameters
from services.gateway.openai.requests.sampling_fields import SamplingFields
from services.gateway.text.validity import Text

_MAX_STOPS = 4

StopString = Annotated[Text, StringConstraints(min_length=1, max_length=256)]


class StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    include_usage: bool | None = None  # in a chunk of its own, the last one
    continuous_usage_stats: bool | None = None  # with include_usage: in every chunk, as vLLM
    include_obfuscation: bool | None = None  # none is ever added


class GenerationRequest(SamplingFields):
    """Parameters beyond its fields: see `parameters.py`."""

    prompt_param: ClassVar[str]  # the one that the prompt is made of
    default_tokens: ClassVar[int | None] = None  # of the answer; None: as the context allows

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    model: Text = Field(min_length=1, max_length=256)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=_MAX_STOPS)] | None = None

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives to each token; None: no log-probabilities at all."""
        raise NotImplementedError

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def usage_options(self) -> StreamOptions:
        return self.stream_options or StreamOptions()

    def check_common(self) -> None:
        """What types cannot say. Raises InvalidRequest that names the parameter."""
        check_parameters(self.model_extra or {})
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options", "'stream_options' needs 'stream' to be true")


def invalid(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_value", param=param)
