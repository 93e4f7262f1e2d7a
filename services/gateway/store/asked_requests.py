"""What a client asks of the list of requests, as a query."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, Select, func, select, true
from sqlalchemy.orm import aliased

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
        """Rows with their models' names, the newest first."""
        return self._of_tenant(tenant) if self.model is None else self._of_model(tenant)

    def _of_tenant(self, tenant: str) -> Select[RequestRow, str]:
        row = aliased(RequestRow, self._newest(RequestRow.tenant == tenant).subquery())
        query = select(row, ModelRow.name).outerjoin(ModelRow, ModelRow.id == row.model_id)
        return query.order_by(row.arrived_at.desc())

    def _of_model(self, tenant: str) -> Select[RequestRow, str]:
        """Also of earlier models of the name. By model alone: else Postgres may look for a few of
        its requests among all of the tenant's."""
        newest = self._newest(RequestRow.model_id == ModelRow.id).correlate(ModelRow).lateral()
        row = aliased(RequestRow, newest)
        query = select(row, ModelRow.name).select_from(ModelRow).join(newest, true())
        query = query.where(ModelRow.tenant == tenant, ModelRow.name == self.model)
        return query.order_by(row.arrived_at.desc()).limit(self.limit)

    def _newest(self, whose: ColumnElement[bool]) -> Select[RequestRow]:
        arrived_at, miss = RequestRow.arrived_at, RequestRow.slo_miss
        query = select(RequestRow).where(
            whose, arrived_at > func.now() - timedelta(hours=self.hours)
        )
        if self.is_missed or self.miss is not None:
            query = query.where(miss.is_not(None))
        if self.miss is not None:
            query = query.where(miss == self.miss.value)
        return query.order_by(arrived_at.desc()).limit(self.limit)
