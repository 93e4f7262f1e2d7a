from typing import Literal

import pytest

from libs.common.messages import SubmitRefused
from services.gateway.generation.refusals import submit_error


@pytest.mark.parametrize("code", ["queue_full", "deadline_too_short"])
def test_who_may_come_again_is_told_when(code: Literal["queue_full", "deadline_too_short"]) -> None:
    error = submit_error(SubmitRefused(code=code, message="later", retry_after_s=7))

    assert (error.status, error.code) == (429, code)
    assert error.headers == {"Retry-After": "7"}
