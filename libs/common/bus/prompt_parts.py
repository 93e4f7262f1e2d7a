"""Cuts prompts that are too long for one message into parts that go before `generate`. Pure."""

from collections.abc import Iterator

from libs.common.bus.messages import Generate, PromptPart, PromptSize
from libs.common.token_ids import TokenIds

PART_IDS = 2**17  # in each part but the last: 700 KB as base64, where a message may have 1 MiB


def fits_into_one_message(message: Generate) -> bool:
    return message.size.num_ids <= PART_IDS


def parts_of(message: Generate) -> Iterator[PromptPart]:
    ids = message.prompt_ids + message.generated_ids
    for first_index in range(0, len(ids), PART_IDS):
        yield PromptPart(
            request_id=message.request_id,
            attempt=message.attempt,
            endpoint_id=message.endpoint_id,
            epoch=message.epoch,
            size=message.size,
            first_index=first_index,
            ids=ids[first_index : first_index + PART_IDS],
        )


def without_ids(message: Generate) -> Generate:
    """What follows the parts."""
    none = TokenIds()
    return message.model_copy(
        update={"prompt_ids": none, "generated_ids": none, "in_parts": message.size}
    )


def num_parts(size: PromptSize) -> int:
    return -(-size.num_ids // PART_IDS)


def is_possible(part: PromptPart) -> bool:
    """Whether a prompt of that size has a part there of so many ids."""
    left = part.size.num_ids - part.first_index
    return part.first_index % PART_IDS == 0 and len(part.ids) == min(PART_IDS, left)
