"""The requests that an engine has: each joins, gets tokens, and ends once."""

from collections.abc import Collection

from libs.common.states import FinishReason
from services.worker.engine.execution.command_queue import Add, Cancel, Command
from services.worker.engine.sampling.draw import Draw
from services.worker.engine.sampling.sampler import Sampled
from services.worker.engine.scheduling.schedule import Schedule
from services.worker.engine.scheduling.sequence import Sequence
from services.worker.engine_port import Output, Request


class RequestTable:
    """For the thread that owns the engine. The schedule has whoever is here, from join to end."""

    def __init__(
        self, schedule: Schedule, *, eos_token_ids: frozenset[int], max_context_tokens: int
    ) -> None:
        self._schedule = schedule
        self._eos_token_ids, self._max_context_tokens = eos_token_ids, max_context_tokens
        self._sequences: dict[str, Sequence] = {}  # by request id
        self._num_arrived = 0

    @property
    def is_empty(self) -> bool:
        return not self._sequences

    @property
    def living(self) -> Collection[Sequence]:
        return self._sequences.values()

    def take(self, commands: list[Command]) -> list[Output]:
        """What others have asked for; what comes of it at once."""
        outputs: list[Output] = []
        for command in commands:
            match command:
                case Add(request):
                    outputs += self._add(request)
                case Cancel(request_id, attempt):
                    outputs += self._cancel(request_id, attempt)
        return outputs

    def draw(self, sequence: Sequence) -> Draw:
        """How its next token is chosen."""
        sampling, index = sequence.request.sampling, sequence.num_generated
        return Draw(sampling, index, sequence.token_ids, self._eos_token_ids)

    def append(self, sequence: Sequence, token: Sampled | None) -> Output:
        """Add a sampled token to its sequence and end the sequence where it must."""
        if token is None:
            error = "the model computed a value that is not finite"
            return self._finish(sequence, FinishReason.ERROR, error)
        index = sequence.num_generated
        sequence.token_ids.append(token.token_id)
        reason = sequence.finish_reason(self._eos_token_ids)
        if reason is not None:
            self._forget(sequence)
        request = sequence.request
        return Output(
            request.request_id,
            request.attempt,
            index,
            (token.token_id,),
            None if token.logprob is None else (token.logprob,),
            reason,
        )

    def _add(self, request: Request) -> list[Output]:
        live = self._sequences.get(request.request_id)
        if live is not None and live.request.attempt >= request.attempt:
            return []
        outputs = [] if live is None else [self._finish(live, FinishReason.CANCELLED)]
        limit = len(request.prompt_ids) + request.sampling.max_tokens
        sequence = Sequence(request, min(limit, self._max_context_tokens), self._num_arrived)
        if reason := sequence.finish_reason(self._eos_token_ids):
            # An earlier attempt produced the last token, but its end was not heard.
            return [*outputs, _output(sequence, finish=reason)]
        self._num_arrived += 1
        self._sequences[request.request_id] = sequence
        self._schedule.add(sequence)
        return outputs

    def _cancel(self, request_id: str, attempt: int) -> list[Output]:
        sequence = self._sequences.get(request_id)
        if sequence is None or sequence.request.attempt > attempt:
            return []
        return [self._finish(sequence, FinishReason.CANCELLED)]

    def _finish(self, sequence: Sequence, reason: FinishReason, error: str | None = None) -> Output:
        self._forget(sequence)
        return _output(sequence, finish=reason, error=error)

    def _forget(self, sequence: Sequence) -> None:
        self._schedule.remove(sequence)
        del self._sequences[sequence.request.request_id]


def _output(sequence: Sequence, *, finish: FinishReason, error: str | None = None) -> Output:
    """An end without a token."""
    request = sequence.request
    return Output(
        request.request_id, request.attempt, sequence.num_generated, finish=finish, error=error
    )
