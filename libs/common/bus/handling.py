"""What happens to a message on its way between the wire and its handler, on every bus."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from pydantic import ValidationError

from libs.common.bus.malformed import complaint_of
from libs.common.bus.message_hold import MessageHold
from libs.common.bus.messages import Message
from libs.common.bus.subjects import Subject
from libs.common.observability import telemetry

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)
Handler = Callable[[M], Awaitable[Message | None]]
Decoder = Callable[[str, bytes], M]  # of a whole subject and a payload; raises ValidationError
OnMalformed = Callable[[str, str], None]  # of the id in the subject, and of what is wrong


def encode(message: Message) -> bytes:
    return message.model_dump_json(exclude_defaults=False).encode()


def decode(cls: type[M], data: bytes) -> M:
    return cls.model_validate_json(data)


def concrete(subject: Subject, token: str | None) -> str:
    return subject.wildcard if token is None and "{}" in subject.pattern else subject.of(token)


async def run_handler(
    subject: Subject,
    decoder: Decoder[M],
    handler: Handler[M],
    data: bytes,
    headers: dict[str, str] | None,
    *,
    name: str,
    on_malformed: OnMalformed | None,
    hold: MessageHold | None = None,
) -> Message | None:
    """Decode, restore the trace context, call; a bad message or handler is logged, not raised."""
    if hold is not None:
        later = partial(
            run_handler,
            *(subject, decoder, handler, data, headers),
            name=name,
            on_malformed=on_malformed,
        )
        if hold.keeps(name, later):
            return None
    try:
        message = decoder(name, data)
    except ValidationError as exc:
        if on_malformed is not None:
            on_malformed(subject.token_of(name), complaint_of(exc))
        else:
            logger.error("dropped a malformed message on %s: %s", name, exc.errors()[:3])
        return None
    with telemetry.remote_context(headers):
        try:
            return await handler(message)
        except Exception:
            logger.exception("the handler of %s failed", subject.pattern)
            return None
