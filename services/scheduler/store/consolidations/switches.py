"""How pipelines became one worker, and how long their requests waited."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import SwitchObserved

_RECORD = text(
    """
    UPDATE consolidations SET switch = CAST(told.switch AS jsonb), pause_p50_ms = told.p50_ms,
        pause_max_ms = told.max_ms
    FROM unnest(CAST(:worker_ids AS text[]), CAST(:generations AS bigint[]),
        CAST(:switches AS text[]), CAST(:p50s_ms AS float8[]), CAST(:maxima_ms AS float8[]))
        AS told (worker_id, generation, switch, p50_ms, max_ms)
    WHERE consolidations.worker_id = told.worker_id
        AND consolidations.generation = told.generation
        AND consolidations.state = 'COMPLETE' AND NOT consolidations.is_scale_up
    RETURNING consolidations.worker_id, consolidations.generation
    """
)


@dataclass(frozen=True)
class ToldSwitch:
    worker_id: str
    switch: SwitchObserved

    @property
    def key(self) -> tuple[str, int]:
        """It reaches a generation once."""
        return (self.worker_id, self.switch.generation)


async def record_switches(session: AsyncSession, told: Sequence[ToldSwitch]) -> list[ToldSwitch]:
    """Those of which there is a row: one whose switch nobody has on record yet comes later."""
    pauses_ms = [[pause.pause_ms for pause in one.switch.pauses] for one in told]
    found = await session.execute(
        _RECORD,
        {
            "worker_ids": [one.worker_id for one in told],
            "generations": [one.switch.generation for one in told],
            "switches": [one.switch.model_dump_json() for one in told],
            "p50s_ms": [median(each) if each else None for each in pauses_ms],
            "maxima_ms": [max(each, default=None) for each in pauses_ms],
        },
    )
    written = {(row.worker_id, row.generation) for row in found}
    return [one for one in told if one.key in written]
