"""Server-sent events: data that stays one line, and progress as a comment or an event."""

import json

from libs.common.bus.messages import RequestProgressed
from services.gateway.openai import sse


def test_no_character_of_an_answer_ends_a_line() -> None:
    text = "".join(map(chr, range(0xD800))) + "\U0001f40d"
    body = json.dumps({"content": text}, ensure_ascii=False).encode()

    frame = sse.data_frame(body).decode()

    (line, empty) = frame.splitlines()
    assert empty == ""
    assert json.loads(line.removeprefix("data: ")) == {"content": text}


def test_progress_is_a_comment_or_an_event_that_says_the_same() -> None:
    progress = RequestProgressed(request_id="req-1", phase="queued", queue_position=2)

    comment = sse.progress_frame(progress, as_event=False).decode()
    event = sse.progress_frame(progress, as_event=True).decode()

    assert comment == ': progress {"phase":"queued","queue_position":2}\n\n'
    assert event == 'event: progress\ndata: {"phase":"queued","queue_position":2}\n\n'


def test_a_data_frame_is_one_event_whatever_the_text_holds() -> None:
    frame = sse.data_frame(json.dumps({"text": "a\n\ndata: b\r\n"}).encode())

    assert frame.count(b"\n\n") == 1
    assert frame.endswith(b"\n\n")
