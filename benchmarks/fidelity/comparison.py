"""Two runs of one trace, request by request and start by start. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from benchmarks.replay.record import RequestRecord, StartRecord


@dataclass(frozen=True)
class Outcome:
    """Of a request, wherever it was served. `ttft_s` None: it was not."""

    index: int
    model: str
    ttft_s: float | None
    is_cold: bool
    has_met_ttft: bool
    has_met_tpot: bool
    tpot_s: float | None = None
    num_stages: int | None = None

    @classmethod
    def of(cls, record: RequestRecord) -> Self:
        return cls(
            record.index,
            record.model,
            record.ttft_s if record.is_served else None,
            record.is_cold,
            has_met_ttft=record.has_met_ttft,
            has_met_tpot=record.has_met_tpot,
            tpot_s=record.tpot_s,
            num_stages=record.num_stages,
        )


@dataclass(frozen=True)
class StartOutcome:
    model: str
    at_s: float
    num_stages: int

    @classmethod
    def of(cls, record: StartRecord) -> Self:
        return cls(record.model, record.at_s, record.num_stages)


@dataclass(frozen=True)
class Pair:
    """The same request in the run that counts as real, and in another one."""

    real: Outcome
    other: Outcome

    @property
    def error(self) -> float | None:
        """By what part of the real time the other one is off; None: one of them was not served."""
        return _error(self.real.ttft_s, self.other.ttft_s)

    @property
    def tpot_error(self) -> float | None:
        return _error(self.real.tpot_s, self.other.tpot_s)

    @property
    def is_of_same_kind(self) -> bool:
        """Cold in both, or in neither."""
        return self.real.is_cold == self.other.is_cold


def pairs(real: Iterable[Outcome], other: Iterable[Outcome]) -> list[Pair]:
    """By place in the trace; who is not in both is left out."""
    others = {outcome.index: outcome for outcome in other}
    return [Pair(one, others[one.index]) for one in real if one.index in others]


@dataclass(frozen=True)
class MatchedStarts:
    """Of two runs the n-th starts of each model; `num_unmatched`: one run has more than the
    other."""

    num_matched: int
    num_same_stages: int
    num_unmatched: int

    def __add__(self, other: "MatchedStarts") -> "MatchedStarts":
        return MatchedStarts(
            self.num_matched + other.num_matched,
            self.num_same_stages + other.num_same_stages,
            self.num_unmatched + other.num_unmatched,
        )

    @property
    def same_share(self) -> float | None:
        return self.num_same_stages / self.num_matched if self.num_matched else None


def match_starts(real: Sequence[StartOutcome], other: Sequence[StartOutcome]) -> MatchedStarts:
    one, two = _stages_by_model(real), _stages_by_model(other)
    num_matched = num_same = num_unmatched = 0
    for model in {*one, *two}:
        first, second = one.get(model, []), two.get(model, [])
        both = list(zip(first, second, strict=False))
        num_matched += len(both)
        num_same += sum(a == b for a, b in both)
        num_unmatched += abs(len(first) - len(second))
    return MatchedStarts(num_matched, num_same, num_unmatched)


def _stages_by_model(starts: Sequence[StartOutcome]) -> Mapping[str, list[int]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for start in sorted(starts, key=lambda start: start.at_s):
        found[start.model].append(start.num_stages)
    return found


def _error(real: float | None, other: float | None) -> float | None:
    if real is None or other is None or real <= 0:
        return None
    return abs(other - real) / real
