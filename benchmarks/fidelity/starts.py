"""What the recorded steps of cold starts say about launches and tails. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.replay.record import StartRecord, StepRecord

MIN_FETCH_BYTES = 8 * 2**20  # of a start that says how long its tail is
_STANDBY = "standby"
_TOTAL, _CACHED = re.compile(r"units, ([\d.]+) MB"), re.compile(r"MB, ([\d.]+) MB cached")
_ALL_CACHED = "all cached"


def middle(values: Iterable[float | None]) -> float | None:
    """The median of those that are there; None without any."""
    known = [value for value in values if value is not None]
    return median(known) if known else None


def fetched_bytes(fetch: StepRecord) -> float:
    """Over the network, as the step's words say: `9 units, 63.7 MB, 20.1 MB cached`; 0: none."""
    total = _TOTAL.search(fetch.detail)
    if total is None or _ALL_CACHED in fetch.detail:
        return 0.0
    cached = _CACHED.search(fetch.detail)
    return 1e6 * (float(total[1]) - (float(cached[1]) if cached else 0.0))


@dataclass(frozen=True)
class Fetched:
    """Seconds since the trace began."""

    node_id: str | None
    begin_s: float
    end_s: float
    size_bytes: float

    def overlaps(self, other: "Fetched") -> bool:
        """On the same card, where both fetched anything."""
        is_same = self.node_id == other.node_id and other.size_bytes > 0
        return is_same and self.begin_s < other.end_s and other.begin_s < self.end_s


@dataclass(frozen=True)
class PromptedStart:
    """`prompt_s`: of its first prompt, if the endpoint had been warm; `last_layer`: of it, that of
    the last layer, which nobody computes before the last byte."""

    start: StartRecord
    prompt_s: float
    last_layer: float

    def step(self, name: str) -> list[StepRecord]:
        """Of all stages; those that have ended."""
        return [s for s in self.start.steps if s.name == name and s.end_s is not None]

    @property
    def first_token_at_s(self) -> float | None:
        found = self.step("first_token")
        return found[-1].end_s if found else None

    @property
    def began_at_s(self) -> float | None:
        """When its last process was started."""
        spawns = self.step("spawn")
        return max(s.start_s for s in spawns) if spawns else None

    @property
    def is_standby(self) -> bool:
        """All its processes were standbys."""
        spawns = self.step("spawn")
        return bool(spawns) and all(s.detail == _STANDBY for s in spawns)

    @property
    def missing_bytes(self) -> int:
        return self.start.weight_bytes - self.start.bytes_from_cache

    def fetches(self) -> Iterator[Fetched]:
        at_s = self.start.at_s
        for step in self.step("fetch"):
            ended_s = at_s + (step.end_s or 0.0)
            yield Fetched(step.node_id, at_s + step.start_s, ended_s, fetched_bytes(step))

    @property
    def fetched_at_s(self) -> float | None:
        ends_s = [step.end_s for step in self.step("fetch") if step.end_s is not None]
        return max(ends_s) if ends_s else None

    @property
    def has_waited_for_bytes(self) -> bool:
        """Its last byte came after its process could compute."""
        built = [step.end_s for step in self.step("build_engine") if step.end_s is not None]
        return self.fetched_at_s is not None and bool(built) and self.fetched_at_s > max(built)


@dataclass(frozen=True)
class Starts:
    found: Sequence[PromptedStart]

    def launch_s(self, *, is_standby: bool) -> float | None:
        """From the start of a lone worker's process to its first token, without the prompt."""
        found = middle(
            start.first_token_at_s - start.began_at_s - start.prompt_s
            for start in self.found
            if start.start.num_stages == 1
            and start.is_standby == is_standby
            and not start.has_waited_for_bytes
            and start.first_token_at_s is not None
            and start.began_at_s is not None
        )
        return None if found is None else max(0.0, found)

    def nic_bytes_per_s(self) -> float | None:
        """Of the large fetches that had their cards to themselves, together, from their first
        moments on: the longer ones count for more, for a card is quicker at first."""
        fetches = [fetch for start in self.found for fetch in start.fetches()]
        alone = [
            one
            for one in fetches
            if one.size_bytes >= MIN_FETCH_BYTES
            and not any(one.overlaps(other) for other in fetches if other is not one)
        ]
        total_s = sum(fetch.end_s - fetch.begin_s for fetch in alone)
        return sum(fetch.size_bytes for fetch in alone) / total_s if total_s else None

    def tail_s(self) -> float | None:
        """Of lone workers: what their first tokens came later than the last byte and the last
        layer's part of the prompt say."""
        found = middle(
            start.first_token_at_s - end_s - start.prompt_s * start.last_layer
            for start in self._fetches()
            if start.first_token_at_s is not None and (end_s := start.fetched_at_s) is not None
        )
        return None if found is None else max(0.0, found)

    def _fetches(self) -> list[PromptedStart]:
        return [
            start
            for start in self.found
            if start.start.num_stages == 1
            and start.has_waited_for_bytes
            and start.missing_bytes >= MIN_FETCH_BYTES
        ]

    def command_s(self) -> float:
        """From a request's arrival until the first process starts, and from the first token until
        its gateway has it."""
        return (
            middle(
                start.start.ttft_s - (start.first_token_at_s - start.began_at_s)
                for start in self.found
                if start.start.ttft_s is not None
                and start.first_token_at_s is not None
                and start.began_at_s is not None
            )
            or 0.0
        )

    def linked_s(self) -> float:
        """From the start of a pipeline's last process until its stages are linked."""
        return (
            middle(
                max(step.end_s or 0.0 for step in start.step("linked")) - start.began_at_s
                for start in self.found
                if start.is_standby and start.step("linked") and start.began_at_s is not None
            )
            or 0.0
        )
