"""The log-probabilities of many tokens, in columns instead of an object for each number."""

from array import array
from collections.abc import Iterable

from libs.common.bus.messages import Logprob


class LogprobColumns:
    """With 20 alternatives a token takes about 260 bytes here; as messages it takes 3,200.

    The numbers are kept as they came, so what is read is equal to what was added.
    """

    def __init__(self, entries: Iterable[Logprob] = ()) -> None:
        """Raises OverflowError for a token id of 2**32 or more."""
        self._logprobs = array("d")  # of the chosen tokens
        self._top_ends = array("I")  # where a token's alternatives end in the two columns below
        self._top_ids = array("I")
        self._top_logprobs = array("d")
        for entry in entries:
            self._add(entry)

    def _add(self, entry: Logprob) -> None:
        self._logprobs.append(entry.logprob)
        for token_id, logprob in entry.top:
            self._top_ids.append(token_id)
            self._top_logprobs.append(logprob)
        self._top_ends.append(len(self._top_ids))

    def __len__(self) -> int:
        return len(self._logprobs)

    def extend(self, other: "LogprobColumns") -> None:
        num_before = len(self._top_ids)
        self._logprobs.extend(other._logprobs)
        self._top_ends.extend(array("I", (num_before + end for end in other._top_ends)))
        self._top_ids.extend(other._top_ids)
        self._top_logprobs.extend(other._top_logprobs)

    def part(self, first: int, last: int) -> tuple[Logprob, ...]:
        """Of tokens [first, last)."""
        return tuple(self._entry(index) for index in range(first, min(last, len(self))))

    def _entry(self, index: int) -> Logprob:
        start = self._top_ends[index - 1] if index else 0
        end = self._top_ends[index]
        top = zip(self._top_ids[start:end], self._top_logprobs[start:end], strict=True)
        return Logprob(logprob=self._logprobs[index], top=tuple(top))
