"""The engine's scheduler: which requests run, and where in the KV cache. Pure, no torch.

First come, first served: a request runs as soon as a slot and a region for its tokens are free, and
nobody overtakes the head of the queue. Regions start small and grow with the sequence, so that a
high `max_tokens` reserves nothing. When there is no room to grow, the youngest sequence gives its
region up and computes its tokens again later; the oldest is never disturbed, so every request ends.
What is in flight keeps its region until it comes back, and who needs that region waits so long.
"""

from bisect import insort
from collections.abc import Sequence as Many
from dataclasses import dataclass

from services.worker.engine.scheduling.batch import Chunk, plan_chunks
from services.worker.engine.scheduling.regions import Region, RegionAllocator
from services.worker.engine.scheduling.sequence import Sequence

GROWTH_SLOTS = 128  # spare slots of a new region, and the least by which a full one grows


@dataclass(frozen=True)
class Move:
    """Copy the first `num_tokens` slots. Moves are carried out in order, before the chunks."""

    source: Region
    target: Region
    num_tokens: int


@dataclass(frozen=True)
class StepPlan:
    moves: tuple[Move, ...]
    chunks: tuple[Chunk, ...]


NO_STEP = StepPlan((), ())


class Schedule:
    def __init__(
        self, *, num_kv_slots: int, max_running: int, max_step_tokens: int, num_batches: int = 1
    ) -> None:
        """`num_batches` micro-batches are in flight at once."""
        assert max_step_tokens >= max_running > 0, "a step must have room for every decode"
        self._regions = RegionAllocator(num_kv_slots)
        self._max_running = max_running
        self._max_step_tokens = max_step_tokens
        self._num_batches = num_batches
        self._waiting: list[Sequence] = []  # by arrival
        self._running: list[Sequence] = []  # by arrival

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def is_empty(self) -> bool:
        return not self._waiting and not self._running

    @property
    def num_kv_slots(self) -> int:
        return self._regions.num_slots

    @property
    def running(self) -> Many[Sequence]:
        """Those that have a region, oldest first."""
        return self._running

    @property
    def num_kv_slots_used(self) -> int:
        return self._regions.num_used

    def add(self, sequence: Sequence) -> None:
        assert sequence.max_num_tokens - 1 <= self._regions.num_slots, "can never fit"
        insort(self._waiting, sequence, key=_arrival)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, wherever it is; its region is free at once."""
        if sequence.region is None:
            self._waiting.remove(sequence)
        else:
            self._running.remove(sequence)
            self._regions.release(sequence.region)
            sequence.region = None

    def set_num_batches(self, num_batches: int) -> None:
        """In flight at once from now on. Nothing is in flight now."""
        self._num_batches = num_batches

    def restart(self, sequence: Sequence) -> None:
        """Let a sequence compute all its tokens again. It is not in flight."""
        self.remove(sequence)
        sequence.restart()
        self.add(sequence)

    def plan(self) -> StepPlan:
        """The next step; its sequences are in flight until `complete`."""
        moves = self._grow_decoding()
        self._admit()
        able = [sequence for sequence in self._running if not _is_full(sequence)]
        chunks = plan_chunks(able, self._max_step_tokens, self._num_batches)
        for chunk in chunks:
            chunk.sequence.num_launched = chunk.end
        return StepPlan(tuple(moves), chunks)

    def complete(self, chunks: Many[Chunk]) -> None:
        """The step came back: its tokens are cached."""
        for chunk in chunks:
            chunk.sequence.num_computed = chunk.end

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._max_running:
            sequence = self._waiting[0]
            region = self._regions.allocate(_first_slots(sequence))
            if region is None:
                return
            sequence.region = region
            insort(self._running, self._waiting.pop(0), key=_arrival)

    def _grow_decoding(self) -> list[Move]:
        moves: list[Move] = []
        for sequence in tuple(self._running):  # oldest first
            while _is_full(sequence) and not self._grow(sequence, moves):
                if not self._preempt_for(sequence):
                    break
        return moves

    def _grow(self, sequence: Sequence, moves: list[Move]) -> bool:
        """Room for at least one more token, in place or elsewhere; False if there is none."""
        region = sequence.region
        assert region is not None
        wanted = region.capacity + max(GROWTH_SLOTS, region.capacity // 2)
        for capacity in (min(wanted, _most_slots(sequence)), len(sequence.token_ids)):
            if grown := self._regions.extend(region, capacity):
                sequence.region = grown
                return True
            if target := self._regions.allocate(capacity):
                moves.append(Move(region, target, sequence.num_computed))
                self._regions.release(region)
                sequence.region = target
                return True
        return False

    def _preempt_for(self, sequence: Sequence) -> bool:
        """Free the youngest one's region; False when a younger one must come back first."""
        younger = [s for s in self._running if s.arrival > sequence.arrival]
        idle = [s for s in younger if not s.is_in_flight]
        if younger and not idle:
            return False
        self.restart(idle[-1] if idle else sequence)
        return True


def _arrival(sequence: Sequence) -> int:
    return sequence.arrival


def _most_slots(sequence: Sequence) -> int:
    """The last token is never an input, so it needs no slot."""
    return max(len(sequence.token_ids), sequence.max_num_tokens - 1)


def _first_slots(sequence: Sequence) -> int:
    """A little more than its tokens need. Who gave its region up waits for room to grow in, the
    more the more often it did: it would be the next to go, and compute everything again."""
    num_tokens, most = len(sequence.token_ids), _most_slots(sequence)
    growth = (most - num_tokens) * sequence.num_preemptions // (sequence.num_preemptions + 1)
    return min(most, num_tokens + max(GROWTH_SLOTS, growth))


def _is_full(sequence: Sequence) -> bool:
    """Whether a sequence about to run has a token without a slot; not so once preempted."""
    region = sequence.region
    return (
        region is not None
        and not sequence.is_in_flight
        and len(sequence.token_ids) > region.capacity
    )
