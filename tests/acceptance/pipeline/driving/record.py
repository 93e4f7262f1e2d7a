"""What the database says of the stages of a model."""

from dataclasses import dataclass

from sqlalchemy import text

from libs.common.records.database import Database

_STAGES = """
SELECT w.id, w.stage_index, w.node_id, w.state, w.pid, w.address, w.public_key,
       w.spec->>'next' IS NOT NULL AS is_linked, w.ready_at IS NOT NULL AS is_ready
FROM workers w JOIN endpoints e ON e.id = w.endpoint_id
WHERE e.model_id = :model_id AND w.is_desired AND w.ended_at IS NULL
ORDER BY w.stage_index
"""


@dataclass(frozen=True)
class StageRow:
    """A worker that the scheduler wants."""

    id: str
    stage_index: int
    node_id: str
    state: str
    pid: int | None
    address: str | None
    public_key: str | None
    is_linked: bool
    is_ready: bool

    @property
    def is_registered(self) -> bool:
        return self.public_key is not None

    @property
    def process(self) -> int:
        """Its id, of a worker that was launched."""
        assert self.pid is not None
        return self.pid


class Record:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def value(self, sql: str, **parameters: object) -> object:
        async with self._database.transaction() as session:
            return await session.scalar(text(sql), parameters)

    async def stages(self, model_id: str) -> list[StageRow]:
        async with self._database.transaction() as session:
            rows = await session.execute(text(_STAGES), {"model_id": model_id})
            return [StageRow(**row._mapping) for row in rows]

    async def was(self, worker_id: str) -> StageRow:
        """How far a worker has come, also of one that has ended."""
        sql = _STAGES.partition("WHERE")[0] + "WHERE w.id = :worker_id"
        async with self._database.transaction() as session:
            row = (await session.execute(text(sql), {"worker_id": worker_id})).one()
            return StageRow(**row._mapping)
