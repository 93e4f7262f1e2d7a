"""What attention of one step is about: chunks over their cached keys, and how keys are scored."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Span:
    """One chunk: which rows of the step are its queries, which slots hold its keys."""

    row_start: int
    num_rows: int
    kv_start: int
    kv_length: int  # with the chunk's own tokens

    @property
    def row_end(self) -> int:
        return self.row_start + self.num_rows

    def within(self, window: int | None) -> "Span":
        """Without the keys that none of its rows sees."""
        unseen = 0 if window is None else max(0, self.kv_length - self.num_rows - window + 1)
        return replace(self, kv_start=self.kv_start + unseen, kv_length=self.kv_length - unseen)


@dataclass(frozen=True)
class Scores:
    """How a query and a key become a score, and which keys a query sees."""

    scale: float
    cap: float | None = None  # cap · tanh(score / cap)
    window: int | None = None  # the query's own token and those before it, so many
