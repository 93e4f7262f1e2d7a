"""One step of the pipeline as every stage sees it: whose tokens, and where their cache slots are.

The entry stage decides; the others keep no state of requests and do what the micro-batch says, in
the order in which micro-batches come. Pure, no torch.
"""

from dataclasses import dataclass

from services.worker.engine.errors import MicroBatchRefused


@dataclass(frozen=True)
class SlotMove:
    """Copy cache slots [source, source + length) to [target, target + length)."""

    source: int
    target: int
    length: int


@dataclass(frozen=True)
class Piece:
    """Tokens [position, position + length) of one sequence."""

    region_start: int  # the cache slot of the sequence's token 0
    position: int
    length: int
    is_sampled: bool  # whether the hidden state of its last token goes back to the entry stage

    @property
    def end(self) -> int:
        return self.position + self.length

    @property
    def is_decode(self) -> bool:
        """Whether it computes a token that was sampled; rarely, it is a prompt's last one."""
        return self.is_sampled and self.length == 1 and self.position > 0


@dataclass(frozen=True)
class KvExport:
    """Send the entry stage keys and values of tokens [start, start + length) of one sequence."""

    export_id: int  # counts the endpoint's exports
    region_start: int  # the cache slot of the sequence's token 0
    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


@dataclass(frozen=True)
class MicroBatch:
    """Moves are carried out in order, then the pieces' tokens are computed together, then the
    exports are read: they may have tokens of this very micro-batch."""

    number: int  # counts the endpoint's micro-batches
    moves: tuple[SlotMove, ...]
    pieces: tuple[Piece, ...]
    exports: tuple[KvExport, ...] = ()

    @property
    def answer(self) -> "MicroBatch":
        """What the last stage sends to the entry, with the sampled rows alone."""
        return MicroBatch(self.number, (), ())

    @property
    def num_tokens(self) -> int:
        return sum(piece.length for piece in self.pieces)

    @property
    def num_sampled(self) -> int:
        return sum(piece.is_sampled for piece in self.pieces)

    @property
    def positions(self) -> list[int]:
        """Of every token in its sequence, in the order of the rows."""
        return [index for piece in self.pieces for index in range(piece.position, piece.end)]

    @property
    def slots(self) -> list[int]:
        """The cache slot of every token, in the order of the rows."""
        return [
            piece.region_start + index
            for piece in self.pieces
            for index in range(piece.position, piece.end)
        ]

    @property
    def sampled_rows(self) -> list[int]:
        rows, row = [], -1
        for piece in self.pieces:
            row += piece.length
            if piece.is_sampled:
                rows.append(row)
        return rows


@dataclass(frozen=True)
class StageCapacity:
    """What a stage can hold; nothing that a neighbour says reaches beyond it."""

    num_slots: int
    max_context_tokens: int
    max_tokens: int  # of one micro-batch


def check_micro_batch(batch: MicroBatch, num_rows: int, capacity: StageCapacity) -> None:
    """Raises MicroBatchRefused for one that does not fit this stage or its own hidden states."""
    refuse = _Refusal(batch.number)
    refuse.unless(batch.num_tokens == num_rows, f"{batch.num_tokens} tokens, {num_rows} rows")
    refuse.unless(
        num_rows <= capacity.max_tokens, f"{num_rows} rows, at most {capacity.max_tokens}"
    )
    for piece in batch.pieces:
        refuse.unless(piece.length > 0, f"{piece} is empty")
        refuse.unless(piece.end <= capacity.max_context_tokens, f"{piece} is beyond the context")
        is_inside = piece.region_start + piece.end <= capacity.num_slots
        refuse.unless(is_inside, f"{piece} ends beyond {capacity.num_slots} cache slots")
    for move in batch.moves:
        is_inside = max(move.source, move.target) + move.length <= capacity.num_slots
        refuse.unless(is_inside, f"{move} ends beyond {capacity.num_slots} cache slots")
        is_apart = abs(move.source - move.target) >= move.length
        refuse.unless(is_apart, f"{move} overlaps itself")
    for export in batch.exports:
        refuse.unless(export.length > 0, f"{export} is empty")
        is_inside = export.region_start + export.end <= capacity.num_slots
        refuse.unless(is_inside, f"{export} ends beyond {capacity.num_slots} cache slots")
    num_exported = sum(export.length for export in batch.exports)
    refuse.unless(num_exported <= capacity.num_slots, f"{num_exported} tokens are to be exported")


class _Refusal:
    def __init__(self, number: int) -> None:
        self._number = number

    def unless(self, is_valid: bool, reason: str) -> None:
        if not is_valid:
            raise MicroBatchRefused(self._number, reason)
