"""Which tokens of which sequences have their keys and values here, of layers on other stages.
Pure bookkeeping, no torch.

Keys and values of a token never change, so they are copied while the pipeline goes on: in exports,
each some tokens of one sequence, in the order of the tokens. A sequence that gives its region up
begins anew, and what still comes of it is dropped.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from services.worker.engine.execution.microbatch import KvExport
from services.worker.engine.scheduling.sequence import Sequence

MIN_EXPORT_TOKENS: Final = 4  # of a sequence that decodes: not a message for each token
MAX_EXPORT_TOKENS: Final = 512


@dataclass
class _Copied:
    """Of one sequence, since it has been in its cache region or where that has moved to."""

    num_preemptions: int
    asked: int = 0  # tokens [0, asked) were asked for
    here: int = 0  # tokens [0, here) are here


@dataclass
class _Asked:
    """An export under way."""

    sequence: Sequence
    copied: _Copied
    export: KvExport
    layers: set[int] = field(default_factory=set)  # that have come


class KvCopy:
    """Asks for at most `window_tokens` at once: what a stage copies it also has to hold."""

    def __init__(self, layers: frozenset[int], window_tokens: int) -> None:
        """`layers`: those on other stages, counted over the whole model."""
        self._layers = layers
        self._window_tokens = max(window_tokens, MIN_EXPORT_TOKENS)
        self._copied: dict[Sequence, _Copied] = {}
        self._asked: dict[int, _Asked] = {}  # by export id
        self._num_exports = 0

    def num_tokens_left(self, running: Iterable[Sequence]) -> int:
        """That are in the pipeline's caches, or will be by what is in flight, and not here."""
        return sum(sequence.num_launched - self._of(sequence).here for sequence in running)

    def exports(self, running: Iterable[Sequence], *, are_last: bool = False) -> list[KvExport]:
        """What to ask for next, up to what is launched; the first of `running` first.

        `are_last`: all that is left, however little of a sequence, and beyond the window.
        """
        running = list(running)
        self._forget_others(running)
        under_way = sum(asked.export.length for asked in self._asked.values())
        room = self._window_tokens - under_way
        exports: list[KvExport] = []
        for sequence in running:
            copied = self._of(sequence)
            while length := _next_length(sequence.num_launched - copied.asked, room, are_last):
                exports.append(self._ask(sequence, copied, length))
                room -= length
        return exports

    def take(self, export_id: int, layers: range) -> int | None:
        """The first slot for a block of these layers, which counts as here from now on; None:
        nobody needs it any more.

        Raises ValueError for one that was not asked for.
        """
        if not 0 <= export_id < self._num_exports:
            raise ValueError(f"export {export_id} was never asked for")
        asked = self._asked.get(export_id)
        if asked is None:
            return None
        if not self._layers.issuperset(layers) or not asked.layers.isdisjoint(layers):
            raise ValueError(f"{layers} of export {export_id} were not asked for")
        asked.layers.update(layers)
        if asked.layers == self._layers:
            del self._asked[export_id]
        region = asked.sequence.region
        if region is None or asked.copied is not self._of(asked.sequence):
            return None
        if asked.layers == self._layers:
            assert asked.copied.here == asked.export.start, "stages keep the order of exports"
            asked.copied.here = asked.export.end
        return region.start + asked.export.start

    def lose(self, export_id: int) -> None:
        """A block of it was damaged: everything of its sequence that is not here is asked again."""
        lost = self._asked.get(export_id)
        if lost is None:
            return
        lost.copied.asked = lost.copied.here
        of_sequence = [id_ for id_, a in self._asked.items() if a.copied is lost.copied]
        for id_ in of_sequence:
            del self._asked[id_]

    def _ask(self, sequence: Sequence, copied: _Copied, length: int) -> KvExport:
        assert sequence.region is not None, "a running sequence has a region"
        export = KvExport(self._num_exports, sequence.region.start, copied.asked, length)
        self._num_exports += 1
        self._asked[export.export_id] = _Asked(sequence, copied, export)
        copied.asked = export.end
        return export

    def _of(self, sequence: Sequence) -> _Copied:
        copied = self._copied.get(sequence)
        if copied is None or copied.num_preemptions != sequence.num_preemptions:
            copied = self._copied[sequence] = _Copied(sequence.num_preemptions)
        return copied

    def _forget_others(self, running: list[Sequence]) -> None:
        """Those that have ended or wait."""
        self._copied = {sequence: self._of(sequence) for sequence in running}
        kept = {id(copied) for copied in self._copied.values()}
        self._asked = {id_: a for id_, a in self._asked.items() if id(a.copied) in kept}


def _next_length(num_tokens: int, room: int, are_last: bool) -> int:
    """Of the next export of a sequence that has so many tokens to ask for."""
    if are_last:
        return min(num_tokens, MAX_EXPORT_TOKENS)
    length = min(num_tokens, room, MAX_EXPORT_TOKENS)
    return length if length >= MIN_EXPORT_TOKENS else 0
