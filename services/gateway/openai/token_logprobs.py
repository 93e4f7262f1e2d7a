"""Log-probabilities of an answer's tokens, as compact as they come; in words only when written."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import overload

from libs.common.bus.messages import Logprob
from services.gateway.openai.responses import Alternative, TokenLogprob

ENTRY_BYTES = 12  # of a token or an alternative to it
_MIN_LOGPROB = -9999.0  # JSON has no infinity


class TokenLogprobs(Sequence[TokenLogprob]):
    """Whole answers may have a hundred thousand tokens with twenty alternatives each: described,
    as the client gets them, they would take a kilobyte per alternative."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._ids = array("I")  # each token, and after it its alternatives
        self._values = array("d")
        self._begins = array("I")  # where each token is among them

    def __len__(self) -> int:
        return len(self._begins)

    @overload
    def __getitem__(self, index: int) -> TokenLogprob: ...
    @overload
    def __getitem__(self, index: slice) -> list[TokenLogprob]: ...

    def __getitem__(self, index: int | slice) -> TokenLogprob | list[TokenLogprob]:
        if isinstance(index, slice):
            return [self._described(i) for i in range(*index.indices(len(self)))]
        return self._described(range(len(self))[index])

    def append(self, token_id: int, entry: Logprob) -> None:
        self._begins.append(len(self._ids))
        for alternative_id, value in ((token_id, entry.logprob), *entry.top):
            self._ids.append(alternative_id)
            self._values.append(max(value, _MIN_LOGPROB))

    def extend(self, others: "TokenLogprobs") -> None:
        offset = len(self._ids)
        self._ids.extend(others._ids)
        self._values.extend(others._values)
        self._begins.extend(begin + offset for begin in others._begins)

    def _described(self, index: int) -> TokenLogprob:
        chosen, *top = self._alternatives(index)
        return TokenLogprob(**chosen.model_dump(), top_logprobs=top)

    def _alternatives(self, index: int) -> Iterator[Alternative]:
        end = self._begins[index + 1] if index + 1 < len(self) else len(self._ids)
        for position in range(self._begins[index], end):
            data = self._token_bytes(self._ids[position])
            # A part of a character appears as its bytes, as with OpenAI: \xe2\x82.
            text = data.decode(errors="backslashreplace")
            yield Alternative(token=text, logprob=self._values[position], bytes=list(data))
