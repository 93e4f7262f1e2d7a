"""Frames that clients of every kind read as one line."""

import json

from services.gateway.openai.sse import data_frame


def test_no_character_of_an_answer_ends_a_line() -> None:
    text = "".join(map(chr, range(0xD800))) + "\U0001f40d"
    body = json.dumps({"content": text}, ensure_ascii=False).encode()

    frame = data_frame(body).decode()

    (line, empty) = frame.splitlines()
    assert empty == ""
    assert json.loads(line.removeprefix("data: ")) == {"content": text}
