"""API keys in Postgres. Only hashes are stored; a key is 160 random bits, so they need no salt."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from libs.common.records.database import Database
from libs.common.records.tables import ApiKeyRow
from libs.common.tenants import OPERATOR_TENANT

_BOOTSTRAP_ID = "key-bootstrap"  # the beginning of these keys' ids
_UNREVOKED = select(ApiKeyRow).where(ApiKeyRow.revoked_at.is_(None))


@dataclass(frozen=True)
class KeyInfo:
    key_id: str
    tenant: str
    name: str
    created_at: datetime


@dataclass(frozen=True)
class KeyStore:
    """Every method raises DatabaseUnavailable."""

    database: Database

    async def find(self, key_sha256: str) -> KeyInfo | None:
        """The key with this hash, unless it was revoked."""
        query = _UNREVOKED.where(ApiKeyRow.key_sha256 == key_sha256)
        async with self.database.transaction() as session:
            row = await session.scalar(query)
        return None if row is None else _info(row)

    async def list_of(self, tenant: str) -> tuple[KeyInfo, ...]:
        query = _UNREVOKED.where(ApiKeyRow.tenant == tenant)
        async with self.database.transaction() as session:
            rows = (await session.scalars(query.order_by(ApiKeyRow.created_at))).all()
        return tuple(_info(row) for row in rows)

    async def create(self, key_id: str, tenant: str, name: str, key_sha256: str) -> KeyInfo:
        values = {"id": key_id, "tenant": tenant, "name": name, "key_sha256": key_sha256}
        async with self.database.transaction() as session:
            row = await session.scalar(insert(ApiKeyRow).values(values).returning(ApiKeyRow))
        assert row is not None
        return _info(row)

    async def revoke(self, tenant: str, key_id: str) -> str | None:
        """The hash of the key that is revoked now; None when the tenant has no such key."""
        statement = (
            update(ApiKeyRow)
            .where(
                ApiKeyRow.id == key_id, ApiKeyRow.tenant == tenant, ApiKeyRow.revoked_at.is_(None)
            )
            .values(revoked_at=func.now())
            .returning(ApiKeyRow.key_sha256)
        )
        async with self.database.transaction() as session:
            return await session.scalar(statement)

    async def put_bootstrap(self, key_sha256: str) -> KeyInfo | None:
        """The operator's first key. Those of earlier files are revoked by it, but a key that was
        revoked, by whomever, stays so: then None, and nothing has changed."""
        values = {
            "id": f"{_BOOTSTRAP_ID}-{key_sha256[:12]}",
            "tenant": OPERATOR_TENANT,
            "name": "bootstrap",
            "key_sha256": key_sha256,
        }
        async with self.database.transaction() as session:
            await session.execute(upsert(ApiKeyRow).values(values).on_conflict_do_nothing())
            row = await session.scalar(_UNREVOKED.where(ApiKeyRow.key_sha256 == key_sha256))
            if row is None:
                return None
            await session.execute(
                update(ApiKeyRow)
                .where(
                    ApiKeyRow.id.startswith(_BOOTSTRAP_ID, autoescape=True),
                    ApiKeyRow.id != row.id,
                    ApiKeyRow.revoked_at.is_(None),
                )
                .values(revoked_at=func.now())
            )
            return _info(row)


def _info(row: ApiKeyRow) -> KeyInfo:
    return KeyInfo(row.id, row.tenant, row.name, row.created_at)
