"""What an answer carries may come back as the next turn's history."""

import pytest
from pydantic import ValidationError

from services.gateway.openai.requests.chat_request import Message


def test_the_official_clients_assistant_message_is_accepted_as_history() -> None:
    dumped: dict[str, object] = {
        "role": "assistant",
        "content": "Paris.",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    }
    assert Message.model_validate(dumped).as_chat_message().content == "Paris."


def test_an_assistant_may_have_said_nothing_but_a_user_must_say_something() -> None:
    said_nothing = Message.model_validate({"role": "assistant", "content": None})
    assert said_nothing.as_chat_message().content == ""
    with pytest.raises(ValidationError, match="needs content"):
        Message.model_validate({"role": "user", "content": None})


def test_what_would_change_the_answer_is_still_refused() -> None:
    with pytest.raises(ValidationError):
        Message.model_validate({"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]})
