"""Messages that follow a round's commit."""

from dataclasses import dataclass

from libs.common.bus.messages import Message
from libs.common.bus.subjects import Subject


@dataclass(frozen=True)
class Outgoing:
    """To be published after the commit. A loss is cured by whoever repeats or asks again."""

    subject: Subject
    token: str | None
    message: Message
