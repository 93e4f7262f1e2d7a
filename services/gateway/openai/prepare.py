"""From a request to its jobs: everything that can be refused before anybody else is asked."""

import asyncio
import secrets
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from libs.common.bus.messages import ModelFacts
from libs.common.clock import Clock
from libs.common.sampling import SamplingParameters
from services.gateway.auth import Caller
from services.gateway.errors import InvalidRequest, PromptTooLong, TokenizerOverrun
from services.gateway.generation.job import TIMEOUT_HEADER, Job
from services.gateway.generation.refusals import deadline_error
from services.gateway.model_readiness import ready_summary
from services.gateway.openai.answer import Answer
from services.gateway.openai.requests.chat_request import ChatRequest
from services.gateway.openai.requests.completion_request import CompletionRequest
from services.gateway.openai.requests.generation_request import GenerationRequest
from services.gateway.registry.model_registry import ModelRegistry
from services.gateway.settings import Limits, Timing
from services.gateway.store.model_entry import ModelEntry
from services.gateway.tenant_limits import HeldByRequest
from services.gateway.text.chat_template import tokenize_chat
from services.gateway.text.plain_text import tokenize_text
from services.gateway.text.prompt_limits import context_error, overrun_error, too_long_error
from services.gateway.text.template_pool import TemplatePool
from services.gateway.text.text_models import TextModel, TextModelCache


@dataclass(frozen=True)
class Arrival:
    """What is known of a request besides its body."""

    request_id: str
    caller: Caller
    arrived_s: float
    timeout_header: str | None
    held: HeldByRequest


@dataclass(frozen=True)
class Prepared:
    """A job and an answer for each prompt."""

    jobs: tuple[Job, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class _Asked:
    """Whom a request asks, and until when."""

    entry: ModelEntry
    summary: ModelFacts
    text_model: TextModel
    deadline_s: float


@dataclass(frozen=True)
class Preparer:
    gateway_id: str
    registry: ModelRegistry
    texts: TextModelCache
    templates: TemplatePool
    clock: Clock
    timing: Timing
    limits: Limits

    async def prepare_chat(self, request: ChatRequest, arrival: Arrival) -> Prepared:
        """Raises ApiError, TokenizerFailed."""
        request.check(self.limits.max_messages)
        asked = await self._find(request, arrival)
        messages = tuple(message.as_chat_message() for message in request.messages)
        model, tenant, context_tokens = (
            asked.text_model, arrival.caller.tenant, asked.entry.context_tokens
        )  # fmt: skip
        async with self._tokenizing(request, asked):
            prompt_ids = await tokenize_chat(
                self.templates, model, messages, tenant, context_tokens
            )
        return self._prepared(request, arrival, asked, (prompt_ids,))

    async def prepare_completion(self, request: CompletionRequest, arrival: Arrival) -> Prepared:
        """Raises ApiError, TokenizerFailed."""
        request.check_common()
        arrival.held.hold_open(len(request.prompts))
        asked = await self._find(request, arrival)
        request.check_vocabulary(asked.summary.vocab_size)
        model, tenant, has_special = (
            asked.text_model, arrival.caller.tenant, request.has_special_tokens
        )  # fmt: skip
        context_tokens = asked.entry.context_tokens
        async with self._tokenizing(request, asked):
            prompts = [
                await tokenize_text(
                    model, prompt, tenant, context_tokens, has_special_tokens=has_special
                )
                if isinstance(prompt, str)
                else prompt
                for prompt in request.prompts
            ]
        return self._prepared(request, arrival, asked, prompts)

    @asynccontextmanager
    async def _tokenizing(self, request: GenerationRequest, asked: _Asked) -> AsyncIterator[None]:
        """Raises what the client is told of a prompt that is too large or waits too long."""
        context_tokens, param = asked.entry.context_tokens, request.prompt_param
        try:
            async with self._until(asked.deadline_s):
                yield
        except PromptTooLong as exc:
            raise too_long_error(context_tokens, param) from exc
        except TokenizerOverrun as exc:
            raise overrun_error(context_tokens, param, str(exc)) from exc

    @asynccontextmanager
    async def _until(self, deadline_s: float) -> AsyncIterator[None]:
        """Raises NotServed when the deadline passes."""
        try:
            async with asyncio.timeout(deadline_s - self.clock.monotonic_s()):
                yield
        except TimeoutError as exc:
            raise deadline_error() from exc

    async def _find(self, request: GenerationRequest, arrival: Arrival) -> _Asked:
        timeout_s = parse_timeout_s(arrival.timeout_header, self.timing.deadline_s)
        entry = await self.registry.find(arrival.caller.tenant, request.model)
        summary = ready_summary(entry, self.clock.now())
        deadline_s = arrival.arrived_s + timeout_s
        async with self._until(deadline_s):
            text_model = (await self.texts.get(summary)).with_template(entry.chat_template)
        return _Asked(entry, summary, text_model, deadline_s)

    def _prepared(
        self,
        request: GenerationRequest,
        arrival: Arrival,
        asked: _Asked,
        prompts: Sequence[Sequence[int]],
    ) -> Prepared:
        jobs = tuple(
            self._job(request, arrival, asked, index, ids) for index, ids in enumerate(prompts)
        )
        self._check_logprobs(request, jobs)
        arrival.held.hold_prompt(sum(map(len, prompts)))
        tokenizer, stops = asked.text_model.tokenizer, request.stops
        answers = (Answer(tokenizer, stops, job.sampling, len(job.prompt_ids)) for job in jobs)
        return Prepared(jobs, tuple(answers))

    def _check_logprobs(self, request: GenerationRequest, jobs: tuple[Job, ...]) -> None:
        """A stream passes them on; what is not streamed collects them. Raises InvalidRequest."""
        if request.stream or request.num_logprobs is None:
            return
        most = sum(job.sampling.max_tokens for job in jobs) * (1 + request.num_logprobs)
        if most > self.limits.max_logprobs:
            message = (
                f"{most} log-probabilities are too many for an answer that is not streamed, the "
                f"limit is {self.limits.max_logprobs}: stream it, or lower 'max_tokens' or the "
                "number of alternatives"
            )
            raise InvalidRequest(message, code="too_many_logprobs", param="logprobs")

    def _job(
        self,
        request: GenerationRequest,
        arrival: Arrival,
        asked: _Asked,
        index: int,
        prompt_ids: Sequence[int],
    ) -> Job:
        """The first one has the HTTP request's own id."""
        entry = asked.entry
        return Job(
            request_id=f"{arrival.request_id}-{index}" if index else arrival.request_id,
            gateway_id=self.gateway_id,
            caller=arrival.caller,
            model_id=entry.model_id,
            slo_ttft_ms=entry.slo_ttft_ms,
            slo_tpot_ms=entry.slo_tpot_ms,
            prompt_ids=array("I", prompt_ids),
            sampling=sampling_parameters(request, entry, asked.summary, len(prompt_ids)),
            arrived_s=arrival.arrived_s,
            deadline_s=asked.deadline_s,
        )


def sampling_parameters(
    request: GenerationRequest, entry: ModelEntry, summary: ModelFacts, num_prompt_tokens: int
) -> SamplingParameters:
    """Raises InvalidRequest for what fits neither the context nor the vocabulary."""
    return request.sampling(
        summary,
        max_tokens=_max_tokens(request, entry.context_tokens, num_prompt_tokens),
        seed=secrets.randbits(63) if request.seed is None else request.seed % 2**64,
        num_logprobs=request.num_logprobs,
    )


def _max_tokens(request: GenerationRequest, context_tokens: int, num_prompt_tokens: int) -> int:
    if num_prompt_tokens == 0:
        raise InvalidRequest("the prompt is empty", code="empty_prompt", param=request.prompt_param)
    left, wanted = context_tokens - num_prompt_tokens, request.wanted_tokens
    if left < 1 or (wanted is not None and wanted > left):
        raise _too_long(request, context_tokens, num_prompt_tokens)
    return wanted or min(left, request.default_tokens or left)


def _too_long(
    request: GenerationRequest, context_tokens: int, num_prompt_tokens: int
) -> InvalidRequest:
    wanted, param = request.wanted_tokens or 1, request.prompt_param
    however = (
        f"you requested {num_prompt_tokens + wanted} tokens ({num_prompt_tokens} in the {param}, "
        f"{wanted} in the completion). Please reduce the length of the {param} or completion."
    )
    return context_error(context_tokens, however, param)


def parse_timeout_s(header: str | None, longest_s: float) -> float:
    """The header can only lower the deadline. Raises InvalidRequest."""
    if header is None:
        return longest_s
    if not (header.isascii() and header.isdigit()) or len(header) > 12 or int(header) == 0:
        message = f"{TIMEOUT_HEADER} must be a positive number of milliseconds"
        raise InvalidRequest(message, code="invalid_value", param=TIMEOUT_HEADER)
    return min(longest_s, int(header) / 1000)
