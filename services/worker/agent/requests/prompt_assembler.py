"""Keeps the parts of long prompts until their `generate` takes them. Pure: the caller brings the
time.

Parts may come in any order, be repeated, or belong to an attempt that was given up. Room is taken
for a whole prompt with its first part, so that those that have begun can be completed.
"""

from dataclasses import dataclass, field
from typing import Literal

from libs.common.bus.messages import Generate, PromptPart, PromptSize
from libs.common.bus.prompt_parts import is_possible, num_parts
from libs.common.token_ids import BYTES_PER_ID, TokenIds

KEEP_S = 30.0  # without another part or a `generate`; a gateway that lives takes milliseconds
MAX_KEPT_BYTES = 256 * 2**20  # of all endpoints of an agent together

Kept = Literal["kept", "no_room", "ended", "refused"]


class PromptMemory:
    """Room for the prompts of all endpoints. Each may always keep one, however many the others
    keep: no endpoint's requests keep another one's out."""

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self.num_bytes = 0
        self._max_bytes = max_bytes

    def reserve(self, num_bytes: int, *, is_only_one: bool) -> bool:
        if self.num_bytes + num_bytes > self._max_bytes and not is_only_one:
            return False
        self.num_bytes += num_bytes
        return True

    def release(self, num_bytes: int) -> None:
        self.num_bytes -= num_bytes


@dataclass
class _Prompt:
    attempt: int
    size: PromptSize
    touched_s: float
    parts: dict[int, TokenIds] = field(default_factory=dict)  # by first index

    @property
    def num_bytes(self) -> int:
        """That it may come to take."""
        return self.size.num_ids * BYTES_PER_ID

    @property
    def is_complete(self) -> bool:
        return len(self.parts) == num_parts(self.size)


@dataclass(frozen=True)
class Prompt:
    prompt_ids: TokenIds
    generated_ids: TokenIds


class PromptAssembler:
    """Of one endpoint, which keeps `max_ids` at most: what its slots could have in work."""

    def __init__(self, memory: PromptMemory, max_ids: int) -> None:
        self._memory, self._max_ids = memory, max_ids
        self._prompts: dict[str, _Prompt] = {}  # by request

    def __len__(self) -> int:
        return len(self._prompts)

    def put(self, part: PromptPart, now_s: float) -> Kept:
        if not is_possible(part):
            return "refused"
        known = self._prompts.get(part.request_id)
        if known is not None and known.attempt > part.attempt:
            return "ended"
        if known is None or (known.attempt, known.size) != (part.attempt, part.size):
            self._drop(part.request_id)
            known = self._begin(part, now_s)
            if known is None:
                return "no_room"
        known.parts[part.first_index] = part.ids
        known.touched_s = now_s
        return "kept"

    def _begin(self, part: PromptPart, now_s: float) -> _Prompt | None:
        prompt = _Prompt(part.attempt, part.size, now_s)
        num_kept = sum(kept.size.num_ids for kept in self._prompts.values())
        if num_kept + part.size.num_ids > self._max_ids:
            return None
        if not self._memory.reserve(prompt.num_bytes, is_only_one=not self._prompts):
            return None
        self._prompts[part.request_id] = prompt
        return prompt

    def take(self, message: Generate) -> Prompt | None:
        """What the message brings, or what came before it, which is kept no longer; None while
        parts are missing."""
        if message.in_parts is None:
            self.drop(message.request_id, message.attempt)
            return Prompt(message.prompt_ids, message.generated_ids)
        known = self._prompts.get(message.request_id)
        if known is None or (known.attempt, known.size) != (message.attempt, message.in_parts):
            return None
        if not known.is_complete:
            return None
        self._drop(message.request_id)
        ids = TokenIds.joined(known.parts[first_index] for first_index in sorted(known.parts))
        num_prompt_ids = known.size.num_prompt_ids
        return Prompt(ids[:num_prompt_ids], ids[num_prompt_ids:])

    def drop(self, request_id: str, attempt: int) -> None:
        """This attempt is over, or does not begin here; a newer one may have begun already."""
        known = self._prompts.get(request_id)
        if known is not None and known.attempt <= attempt:
            self._drop(request_id)

    def expire(self, now_s: float) -> None:
        """Forget those for which nobody comes any more."""
        for request_id, prompt in tuple(self._prompts.items()):
            if now_s - prompt.touched_s >= KEEP_S:
                self._drop(request_id)

    def clear(self) -> None:
        for request_id in tuple(self._prompts):
            self._drop(request_id)

    def _drop(self, request_id: str) -> None:
        prompt = self._prompts.pop(request_id, None)
        if prompt is not None:
            self._memory.release(prompt.num_bytes)
