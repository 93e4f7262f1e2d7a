"""What becomes of the parameters that this server does not act upon. Pure.

Every parameter of OpenAI's API, and of vLLM's besides, is of one of three kinds. Supported ones
have a type in the request's class. Those in `IGNORED` change nothing that this server does. Those
in `NEUTRAL_VALUES` would change the answer in ways that we do not have: a value other than a
neutral one is refused, never silently dropped. Null means the same as leaving a parameter out.
"""

from collections.abc import Mapping
from typing import Any, Final

from services.gateway.errors import InvalidRequest

IGNORED: Final = (
    "cache_salt",
    "metadata",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "request_id",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
    "verbosity",
)

NEUTRAL_VALUES: Final[dict[str, tuple[object, ...]]] = {
    "add_generation_prompt": (True,),
    "add_special_tokens": (False,),  # of chats, whose template writes them
    "allowed_token_ids": (),
    "audio": (),
    "bad_words": ([],),
    "best_of": (1,),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "documents": ([],),
    "early_stopping": (False,),
    "echo": (False,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "guided_choice": (),
    "guided_decoding_backend": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_whitespace_pattern": (),
    "include_reasoning": (True,),
    "include_stop_str_in_output": (False,),
    "kv_transfer_params": ({},),
    "length_penalty": (1,),
    "logits_processors": ([],),
    "mm_processor_kwargs": ({},),
    "modalities": (["text"],),
    "n": (1,),
    "priority": (0,),
    "prompt_logprobs": (),
    "response_format": ({"type": "text"},),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "structured_outputs": (),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "truncate_prompt_tokens": (),
    "use_beam_search": (False,),
    "vllm_xargs": ({},),
    "web_search_options": (),
}


def check_parameters(others: Mapping[str, Any]) -> None:
    """Of parameters that have no type. Raises InvalidRequest that names the first bad one."""
    for name, value in others.items():
        if value is not None and name not in IGNORED:
            _check(name, value)


def _check(name: str, value: Any) -> None:
    if name not in NEUTRAL_VALUES:
        message = f"unrecognized parameter: {name[:100]!r}"
        raise InvalidRequest(message, code="unknown_parameter", param=name[:100])
    if not any(_is_same(value, neutral) for neutral in NEUTRAL_VALUES[name]):
        message = f"{name!r} is not supported by this server; leave it out"
        raise InvalidRequest(message, code="unsupported_parameter", param=name)


def _is_same(value: object, neutral: object) -> bool:
    """Python takes true for 1; JSON does not."""
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)
