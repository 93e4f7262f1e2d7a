"""Failures that no second run may excuse: they are of the system, never of a busy machine.

AssertionError
├── WrongTokens      an answer has other tokens than it must have
└── BrokenInvariant  a promise of docs/invariants.md does not hold
"""

from collections.abc import Sequence


class WrongTokens(AssertionError):
    pass


class BrokenInvariant(AssertionError):
    """`broken` are sentences that each begin with the promise's number."""

    def __init__(self, broken: Sequence[str]) -> None:
        super().__init__("\n".join(broken))
        self.broken = tuple(broken)


def require_tokens(is_right: bool, what: object) -> None:
    """Raises WrongTokens with `what` unless an answer is right."""
    if not is_right:
        raise WrongTokens(str(what))


def require_same_tokens(actual: object, expected: object, what: str = "the answer") -> None:
    """Two texts, or two sequences (or mappings of sequences) of ids. Raises WrongTokens."""
    if actual != expected:
        raise WrongTokens(f"{what} is\n  {actual!r}\ninstead of\n  {expected!r}")
