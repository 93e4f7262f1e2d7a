"""API keys in Postgres. Only hashes are stored; a key is 160 random bits, so they need no salt."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, any_, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from libs.common.records.database import Database
from libs.common.records.tables import ApiKeyRow
from libs.common.tenants import OPERATOR_TENANT
from services.gateway.store.arrays import texts

_BOOTSTRAP_ID = "key-bootstrap"  # the beginning of these keys' ids
_UNREVOKED = select(ApiKeyRow).where(ApiKeyRow.revoked_at.is_(None))


@dataclass(frozen=True)
class KeyInfo:
    key_id: str
    tenant: str
    name: str
    created_at: datetime
    last_used_at: datetime | None = None  # to the minute; None: never, or not noted yet


@dataclass(frozen=True)
class KeyStore:
    """Every method raises DatabaseUnavailable."""

    database: Database

    async def find_all(self, keys_sha256: Collection[str]) -> dict[str, KeyInfo]:
        """The keys with these hashes, by hash; none that was revoked."""
        query = _UNREVOKED.where(ApiKeyRow.key_sha256 == any_(texts(keys_sha256)))
        async with self.database.transaction() as session:
            rows = (await session.scalars(query)).all()
        return {row.key_sha256: _info(row) for row in rows}

    async def list_of(self, tenant: str | None) -> tuple[KeyInfo, ...]:
        """Of one tenant, or of all; none that was revoked."""
        query = _UNREVOKED if tenant is None else _UNREVOKED.where(ApiKeyRow.tenant == tenant)
        async with self.database.transaction() as session:
            order = (ApiKeyRow.tenant, ApiKeyRow.created_at, ApiKeyRow.id)
            rows = (await session.scalars(query.order_by(*order))).all()
        return tuple(_info(row) for row in rows)

    async def write_uses(self, key_ids: Collection[str]) -> None:
        """They are used now. Rows that another gateway writes at this moment are left to it."""
        used = select(ApiKeyRow.id).where(ApiKeyRow.id == any_(texts(key_ids)))
        statement = (
            update(ApiKeyRow)
            .where(ApiKeyRow.id.in_(used.with_for_update(skip_locked=True)))
            .values(last_used_at=func.now())
            .execution_options(synchronize_session=False)
        )
        async with self.database.transaction() as session:
            await session.execute(statement)

    async def create(self, key_id: str, tenant: str, name: str, key_sha256: str) -> KeyInfo:
        values = {"id": key_id, "tenant": tenant, "name": name, "key_sha256": key_sha256}
        async with self.database.transaction() as session:
            row = await session.scalar(insert(ApiKeyRow).values(values).returning(ApiKeyRow))
        assert row is not None
        return _info(row)

    async def revoke(self, tenant: str | None, key_id: str) -> str | None:
        """The hash of the key that is revoked now; None when the tenant, or for None anybody, has
        no such key."""
        is_meant = ApiKeyRow.id == key_id
        if tenant is not None:
            is_meant = and_(is_meant, ApiKeyRow.tenant == tenant)
        statement = (
            update(ApiKeyRow)
            .where(is_meant, ApiKeyRow.revoked_at.is_(None))
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
    return KeyInfo(row.id, row.tenant, row.name, row.created_at, row.last_used_at)
