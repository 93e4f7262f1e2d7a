"""Keys and values on their way from the other stages into the cache of the whole model."""

from typing import Final

from services.worker.engine.attention.kv_cache import KvCache
from services.worker.engine.consolidation.kv_copy import KvCopy
from services.worker.engine.consolidation.kv_ports import KvBlock, KvBlockLost, KvReceiver
from services.worker.engine.execution.microbatch import KvExport, SlotMove
from services.worker.engine.scheduling.schedule import Schedule
from services.worker.errors import WorkerError

WINDOW_BYTES: Final = 8 * 2**20  # under way at once
BLOCKS_AT_ONCE: Final = 16  # that are written between two steps of a running pipeline
MAX_LOST_BLOCKS: Final = 8


class KvInflow:
    """For the thread that owns the engine, without gradients."""

    def __init__(
        self, receiver: KvReceiver, schedule: Schedule, *, whole: KvCache, stage: KvCache
    ) -> None:
        """`whole` is the cache of all layers, which shares the stage's with it."""
        self._receiver, self._schedule, self._whole = receiver, schedule, whole
        others = whole.beside(stage)
        self._rest = others.cache
        self.bytes_per_token = others.cache.bytes_per_token  # of what has to come
        self._copy = KvCopy(others.layers, WINDOW_BYTES // max(1, self.bytes_per_token))
        self.num_bytes = 0  # that have come
        self._num_lost = 0

    @property
    def num_bytes_left(self) -> int:
        """Of running sequences, with what is in flight."""
        return self._copy.num_tokens_left(self._schedule.running) * self.bytes_per_token

    def exports(self) -> tuple[KvExport, ...]:
        """What the next micro-batch shall ask for."""
        return tuple(self._copy.exports(self._schedule.running))

    def last_exports(self) -> tuple[KvExport, ...]:
        """All that is left to ask for."""
        return tuple(self._copy.exports(self._schedule.running, are_last=True))

    def apply(self, moves: tuple[SlotMove, ...]) -> None:
        """The stage has moved sequences to other slots: what came of other layers moves too."""
        for move in moves:
            self._rest.apply(move)

    def take(self, timeout_s: float) -> bool:
        """Write what has come, some blocks at a time; waits for the first. False when one was lost
        and its sequence must be asked for again.

        Raises WorkerError.
        """
        has_all = True
        for _ in range(BLOCKS_AT_ONCE):
            match self._receiver.receive(timeout_s):
                case None:
                    break
                case KvBlockLost(export_id):
                    self._lose(export_id)
                    has_all = False
                case KvBlock() as block:
                    self._write(block)
            timeout_s = 0.0
        return has_all

    def _write(self, block: KvBlock) -> None:
        try:
            slot = self._copy.take(block.export_id, block.layers)
        except ValueError as exc:
            raise WorkerError(f"stage {block.stage} sends what nobody asked for: {exc}") from exc
        self.num_bytes += block.num_bytes
        if slot is not None:
            self._whole.write(block.first_layer, slot, block.data)

    def _lose(self, export_id: int) -> None:
        self._num_lost += 1
        if self._num_lost > MAX_LOST_BLOCKS:
            raise WorkerError(f"{self._num_lost} blocks of keys and values came damaged")
        self._copy.lose(export_id)
