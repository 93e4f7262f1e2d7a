"""The header with which a client lowers its deadline."""

import pytest

from services.gateway.errors import InvalidRequest
from services.gateway.openai.prepare import parse_timeout_s


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, 600.0), ("1500", 1.5), ("1", 0.001), ("999999999", 600.0)]
)
def test_the_header_can_only_lower_the_deadline(header: str | None, seconds: float) -> None:
    assert parse_timeout_s(header, 600.0) == seconds


@pytest.mark.parametrize("header", ["", "0", "-1", "1.5", "٣", "1e3", "x" * 99])
def test_a_deadline_that_is_no_number_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_timeout_s(header, 600.0)
