"""A unit file of which there is only the header, in this process's own memory."""

from pathlib import Path

from libs.common.weights.manifest import UnitEntry
from libs.common.weights.unitheader import header_bytes
from libs.common.weights.unitwriter import UnitWriter


class HollowUnitWriter(UnitWriter):
    """Counts chunks as the real one does; its chunks have no bytes."""

    def __init__(self, unit: UnitEntry, *, is_complete: bool) -> None:
        header = bytearray(header_bytes(unit.size_bytes, unit.chunk_size_bytes))
        super().__init__(Path(unit.digest), memoryview(header), unit)
        self._initialise()
        if is_complete:
            for index in range(unit.num_chunks):
                self.commit_chunk(index)
