"""Why an endpoint does not take a request. Pure."""

from dataclasses import dataclass

from libs.common.bus.messages import Generate, GenerateReply, PromptPart, WorkerSpec
from services.worker.agent.requests.token_log import TokenLog
from services.worker.frames.frames import MAX_PROMPT_IDS

MAX_WAITING = 8  # requests beyond the slots that an endpoint holds before it says busy


@dataclass(frozen=True)
class Asked:
    """What `generate` says of a request, and each part of a prompt before it."""

    request_id: str
    attempt: int
    epoch: int
    num_ids: int  # of the prompt and of what was generated
    num_tokens: int  # that it may come to have, as far as is known

    @classmethod
    def by_generate(cls, message: Generate) -> "Asked":
        size, max_tokens = message.size, message.sampling.max_tokens
        num_tokens = size.num_prompt_ids + max_tokens
        return cls(message.request_id, message.attempt, message.epoch, size.num_ids, num_tokens)

    @classmethod
    def by_part(cls, part: PromptPart) -> "Asked":
        num_ids = part.size.num_ids
        return cls(part.request_id, part.attempt, part.epoch, num_ids, num_ids)


def refusal_of(
    asked: Asked, spec: WorkerSpec, log: TokenLog, *, is_closed_to_new: bool
) -> GenerateReply | None:
    """None if it is taken."""
    if asked.epoch != spec.endpoint_epoch:
        return GenerateReply(result="stale_epoch")
    if spec.is_draining or is_closed_to_new:
        return GenerateReply(result="draining")
    if log.has_ended(asked.request_id, asked.attempt):
        return GenerateReply(result="ended")
    if asked.num_tokens > spec.max_context_tokens:
        return GenerateReply(result="stale_context")  # else the answer would be cut short
    if asked.num_ids > MAX_PROMPT_IDS:
        message = f"{asked.num_ids} tokens are too many to begin with: at most {MAX_PROMPT_IDS}"
        return GenerateReply(result="refused", message=message)
    if _num_others(log, asked.request_id) >= spec.max_slots + MAX_WAITING:
        return GenerateReply(result="busy")
    return None


def _num_others(log: TokenLog, request_id: str) -> int:
    return sum(request.request_id != request_id for request in log.unfinished())
