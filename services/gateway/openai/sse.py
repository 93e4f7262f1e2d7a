"""Server-sent events, byte by byte. Pure."""

from enum import Enum

from libs.common.bus.messages import RequestProgressed


class ProgressForm(Enum):
    """How a client is told of the start that it waits for; the values are those of a header."""

    COMMENTS = "comments"  # which the standard lets every client skip
    EVENTS = "events"  # named `progress`, for clients that show them
    NONE = "none"  # for clients that take every line for data

    @classmethod
    def of(cls, header: str | None) -> "ProgressForm":
        """Whatever nobody knows is the default."""
        known = {form.value: form for form in cls}
        return known.get((header or "").lower(), cls.COMMENTS)


DONE = b"data: [DONE]\n\n"
_EMPTY_COMMENT = b":\n\n"
_WAITING = b'{"phase":"waiting"}'
# What ends a line for many clients, though not for the standard: NEL, and the two separators.
_LINE_ENDS = tuple((c.encode(), b"\\u%04x" % ord(c)) for c in "\x85\u2028\u2029")


def data_frame(json_line: bytes) -> bytes:
    assert b"\n" not in json_line, "a line break would end the event"
    for character, escaped in _LINE_ENDS:
        json_line = json_line.replace(character, escaped)
    return b"data: " + json_line + b"\n\n"


def progress_frame(progress: RequestProgressed | None, *, as_event: bool) -> bytes:
    """A comment, which every client skips, or an event for one that asked to see it."""
    payload = _WAITING
    if progress is not None:
        payload = progress.model_dump_json(exclude={"request_id"}, exclude_none=True).encode()
    if as_event:
        return b"event: progress\n" + data_frame(payload)
    return b": progress " + payload + b"\n\n"


class CommentSeparator:
    """Puts an empty comment before the data that follows a comment or an event of ours.

    Some clients (`vllm bench serve` among them) strip the white space off whatever one read brings,
    and only then look for the empty line that ends an event. So the end of a comment that was sent
    for itself is lost to them, and they take the next event for a part of it. In the same write as
    that event the empty comment's own end survives, and the event stands alone.
    """

    def __init__(self) -> None:
        self._is_after_comment = False

    def separated(self, frame: bytes) -> bytes:
        """What to write for the stream's next frame."""
        is_data = frame.startswith(b"data:")
        prefix = _EMPTY_COMMENT if is_data and self._is_after_comment else b""
        self._is_after_comment = not is_data
        return prefix + frame
