"""What a client asks of the list of requests, as a query."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Select, func, select

from libs.common.records.tables import ModelRow, RequestRow
from libs.common.states import SloMiss


@dataclass(frozen=True)
class AskedRequests:
    """Which requests a list shall have."""

    model: str | None
    is_missed: bool  # only those that missed their SLO
    miss: SloMiss | None  # only for this reason
    hours: int  # that arrived since then
    limit: int

    def query(self, tenant: str) -> Select[RequestRow, str]:
        row = RequestRow
        query = (
            select(row, ModelRow.name)
            .outerjoin(ModelRow, ModelRow.id == row.model_id)
            .where(row.tenant == tenant)
            .where(row.arrived_at > func.now() - timedelta(hours=self.hours))
            .order_by(row.arrived_at.desc())
            .limit(self.limit)
        )
        if self.model is not None:
            its = select(ModelRow.id).where(ModelRow.tenant == tenant, ModelRow.name == self.model)
            query = query.where(row.model_id.in_(its))
        if self.is_missed or self.miss is not None:
            query = query.where(row.slo_miss.is_not(None))
        return query if self.miss is None else query.where(row.slo_miss == self.miss.value)
