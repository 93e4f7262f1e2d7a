"""Keeps micro-batches in flight: they leave the entry stage and come back in the same order."""

from collections import deque
from dataclasses import dataclass

import torch

from services.worker.engine.errors import MicroBatchRefused
from services.worker.engine.execution.executor import Executor
from services.worker.engine.execution.microbatch import KvExport, MicroBatch, Piece, SlotMove
from services.worker.engine.execution.notices import KvInletOpened, Notice
from services.worker.engine.execution.ring import Arrival, Ring
from services.worker.engine.scheduling.batch import Chunk
from services.worker.engine.scheduling.schedule import NO_STEP, StepPlan
from services.worker.engine.scheduling.sequence import Sequence
from services.worker.engine_port import StageEvents


@dataclass(frozen=True)
class InFlight:
    batch: MicroBatch
    chunks: tuple[Chunk, ...]
    sampled: tuple[Sequence, ...]  # whose next token comes back


@dataclass(frozen=True)
class Returned:
    chunks: tuple[Chunk, ...]
    sampled: tuple[Sequence, ...]
    logits: torch.Tensor | None  # [sampled, vocabulary], None where nothing is sampled


class Pipeline:
    """As many micro-batches in flight as there are stages, so that none of them need wait."""

    def __init__(self, executor: Executor, ring: Ring, events: StageEvents) -> None:
        self._executor, self._ring, self._events = executor, ring, events
        self._in_flight: deque[InFlight] = deque()
        self._num_launched = self._num_notices = 0

    @property
    def has_room(self) -> bool:
        return len(self._in_flight) < self._executor.place.num_stages

    @property
    def is_empty(self) -> bool:
        return not self._in_flight

    def launch(self, plan: StepPlan, exports: tuple[KvExport, ...] = ()) -> MicroBatch:
        """Run the entry's own layers and send what follows on its way; what was launched.

        Raises WeightsUnavailable, TensorError, or what the ring raises.
        """
        batch = micro_batch(self._num_launched, plan, exports)
        self._num_launched += 1
        sampled = tuple(chunk.sequence for chunk in plan.chunks if chunk.is_sampled)
        embedded = self._executor.embed(_token_ids(plan.chunks), batch.positions)
        hidden = self._executor.run(batch, embedded)
        self._events.leaving(is_sampled=bool(sampled))
        self._ring.send(batch.answer if self._executor.place.is_last else batch, hidden)
        self._events.left()
        self._in_flight.append(InFlight(batch, plan.chunks, sampled))
        return batch

    def launch_exports(self, exports: tuple[KvExport, ...]) -> None:
        """Behind everything in flight, a micro-batch that computes nothing. Whether there is room
        for one more does not matter. Raises what the ring raises."""
        self.launch(NO_STEP, exports)

    def tell(self, notice: Notice) -> None:
        """Every stage hears of it, after everything in flight; then it comes out of `collect`.

        Raises what the ring raises.
        """
        self._ring.tell(notice)
        if isinstance(notice, KvInletOpened):
            self._num_notices += 1

    def collect(self, timeout_s: float) -> Returned | Notice | None:
        """The oldest micro-batch or notice, if it comes back in time and before `wake`.

        Raises MicroBatchRefused for another one, or what the ring raises.
        """
        if not self._in_flight and not self._num_notices:
            return None
        arrival = self._ring.receive(timeout_s)
        if arrival is None:
            return None
        if not isinstance(arrival, Arrival):
            self._num_notices -= 1
            return arrival
        return self._returned(arrival)

    def _returned(self, arrival: Arrival) -> Returned:
        self._events.received(is_sampled=len(arrival.hidden) > 0)
        if not self._in_flight:
            raise MicroBatchRefused(arrival.batch.number, "nothing is in flight")
        oldest = self._in_flight.popleft()
        number, num_rows = oldest.batch.number, len(oldest.sampled)
        if arrival.batch != oldest.batch.answer or arrival.hidden.shape[0] != num_rows:
            raise MicroBatchRefused(
                number,
                f"micro-batch {arrival.batch.number} came back with {arrival.hidden.shape[0]} "
                f"rows instead of {num_rows}",
            )
        logits = self._executor.logits(arrival.hidden) if num_rows else None
        return Returned(oldest.chunks, oldest.sampled, logits)

    def wake(self) -> None:
        """End `collect` early. Any thread."""
        self._ring.wake()


def micro_batch(number: int, plan: StepPlan, exports: tuple[KvExport, ...] = ()) -> MicroBatch:
    """A step's plan in the words of all stages."""
    moves = (SlotMove(m.source.start, m.target.start, m.num_tokens) for m in plan.moves)
    return MicroBatch(number, tuple(moves), tuple(_piece(chunk) for chunk in plan.chunks), exports)


def _piece(chunk: Chunk) -> Piece:
    region = chunk.sequence.region
    assert region is not None, "a running sequence has a region"
    return Piece(region.start, chunk.start, chunk.length, chunk.is_sampled)


def _token_ids(chunks: tuple[Chunk, ...]) -> list[int]:
    return [token for c in chunks for token in c.sequence.token_ids[c.start : c.end]]
