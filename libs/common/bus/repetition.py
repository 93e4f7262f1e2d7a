"""Messages that a sender repeats word for word but for a counter. Thousands come each second: what
has not changed is read once."""

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, NamedTuple, cast

from libs.common.bus.handling import Decoder, M, decode
from libs.common.bus.subjects import Subject

MAX_SENDERS = 16_384  # who are remembered; others' messages are read whole
MAX_BYTES = 65_536  # of a message that is remembered
MAX_DIGITS = 18  # of a counter: more of them are no 64 bit integer for certain


class _Last(NamedTuple):
    """`head` and `tail` are the bytes in front of the counter and behind it."""

    head: bytes
    tail: bytes
    message: object


@dataclass
class RepeatedMessages(Generic[M]):
    """Decodes a class's messages, of which `counter` is the field that always changes. A message
    that repeats its sender's last shares that one's values: they are the same objects."""

    cls: type[M]
    counter: str
    _last: OrderedDict[str, _Last] = field(default_factory=OrderedDict)

    def decode(self, sender: str, data: bytes) -> M:
        """Raises ValidationError."""
        last = self._last.get(sender)
        if last is not None and data.startswith(last.head) and data.endswith(last.tail):
            digits = data[len(last.head) : len(data) - len(last.tail)]
            if _is_counter(digits):
                self._last.move_to_end(sender)
                assert isinstance(last.message, self.cls)
                return last.message.model_copy(update={self.counter: int(digits)})
        message = decode(self.cls, data)
        self._remember(sender, data, message)
        return message

    def _remember(self, sender: str, data: bytes, message: M) -> None:
        name, value = f'"{self.counter}":'.encode(), str(getattr(message, self.counter)).encode()
        head, found, rest = data.partition(name + value)
        is_plain = (
            len(data) <= MAX_BYTES
            and found
            and rest[:1] in (b",", b"}")
            and name not in rest
            and _is_counter(value)
        )
        if not is_plain:  # written in another way, or the name is in a text, too
            self._last.pop(sender, None)
            return
        self._last[sender] = _Last(head + name, rest, message)
        self._last.move_to_end(sender)
        if len(self._last) > MAX_SENDERS:
            self._last.popitem(last=False)


def decoder_of(subject: Subject) -> Decoder[M]:
    """Of one listener; each has its own."""
    cls = cast("type[M]", subject.message)
    if cls.COUNTER is None:
        return partial(_decode, cls)
    return RepeatedMessages(cls, cls.COUNTER).decode


def _decode(cls: type[M], _: str, data: bytes) -> M:
    return decode(cls, data)


def _is_counter(digits: bytes) -> bool:
    """As JSON writes an integer that is not negative."""
    is_short = 0 < len(digits) <= MAX_DIGITS
    return is_short and digits.isdigit() and (digits == b"0" or not digits.startswith(b"0"))


def repeats(message: M, before: M) -> bool:
    """Whether all values but the counter are the very same objects as those of `before`."""
    known, counter = before.__dict__, message.COUNTER
    for name, value in message.__dict__.items():  # as a loop: no call per field
        if value is not known[name] and name != counter:
            return False
    return True
