"""The server's refusals as one line: its own words, and the next step. Pure."""

import json

from deploy.cli.errors import CliError, NotAuthorized, Refused, TryLater

_NEXT_STEPS = {
    "model_not_found": "see 'hydraserve models ls'",
    "model_exists": "remove it first with 'hydraserve models rm NAME', or choose another name",
    "model_not_ready": "follow its import with 'hydraserve models show NAME'",
    "invalid_api_key": "set HYDRASERVE_API_KEY or give --api-key",
}
_MAX_CHARACTERS = 300  # of a body that is not ours


def refusal(status: int, body: bytes, retry_after: str | None) -> CliError:
    """From a response that is no success; whatever stands between may have answered, too."""
    message, code = _words(status, body)
    next_step = _NEXT_STEPS.get(code, "")
    if status in (401, 403):
        return NotAuthorized(_line(message, next_step))
    if status in (429, 503):
        again = f"try again in {retry_after} s" if retry_after else "try again later"
        return TryLater(_line(message, next_step or again))
    return Refused(_line(message, next_step))


def _words(status: int, body: bytes) -> tuple[str, str]:
    """Message and code."""
    try:
        error = json.loads(body)["error"]
        return str(error["message"]), str(error["code"])
    except (ValueError, LookupError, TypeError):
        text = body.decode(errors="replace")[:_MAX_CHARACTERS]
        return f"the server answered {status} {text}", ""


def _line(message: str, next_step: str) -> str:
    words = " ".join(message.split())
    return f"{words}; {next_step}" if next_step else words
