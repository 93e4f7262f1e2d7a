"""What is wrong with a message that its class refuses, in a few words that name the field."""

from pydantic import ValidationError


def complaint_of(exc: ValidationError) -> str:
    """E.g. `workers.address: Input should be a valid string`; never what the field held."""
    first = exc.errors(include_input=False, include_url=False)[0]
    field = ".".join(part for part in first["loc"] if isinstance(part, str))
    return f"{field or 'message'}: {first['msg']}"
