"""Messages that must follow a committed transaction: written as rows in it, published afterwards.

A row may be published twice (a crash between publishing and deleting); every handler bears that.
One that can never be published (another version wrote it) is logged and removed: what rows say is
reconciled by whoever needs it, and a service that died of one would die of it again.

A service publishes what its own database role wrote: a policy of the table lets the gateway's role
see and write rows of gateways only, so nobody can speak through another service's relay.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.bus import Bus
from libs.common.bus.messages import Message
from libs.common.bus.subjects import TABLE, Service, Subject
from libs.common.errors import BusError, BusPayloadTooLarge, DatabaseUnavailable
from libs.common.observability import telemetry
from libs.common.records.database import Database
from libs.common.records.tables import OutboxRow

logger = logging.getLogger(__name__)

BATCH_ROWS = 200
POLL_S = 1.0  # finds what another process left behind; own writes wake the relay at once

_SUBJECTS = {row.pattern: row for row in TABLE}


async def enqueue(
    session: AsyncSession, service: Service, subject: Subject, token: str | None, message: Message
) -> None:
    """Add a message of `service` to the current transaction."""
    row = {
        "service": service.value,
        "subject": subject.pattern,
        "token": token,
        "body": message.model_dump(mode="json"),
        "traceparent": telemetry.current_traceparent(),
    }
    await session.execute(insert(OutboxRow).values(row))


class Unpublishable(Exception):
    """What a row holds is no message of this version."""


def _subject_and_message(row: OutboxRow) -> tuple[Subject, Message]:
    """Raises Unpublishable."""
    subject = _SUBJECTS.get(row.subject)
    if subject is None:
        raise Unpublishable("its subject is not known")
    if row.service not in subject.publishers:
        raise Unpublishable(f"a {row.service} may not publish it")
    try:
        subject.of(row.token)
        return subject, subject.message.model_validate(row.body)
    except ValueError as exc:  # pydantic's ValidationError is one
        raise Unpublishable(str(exc).replace("\n", " ")[:300]) from exc


@dataclass
class OutboxRelay:
    """Publishes a service's rows in order. Run one per process; rows are locked while sent."""

    database: Database
    bus: Bus
    service: Service

    def __post_init__(self) -> None:
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Call after a commit that wrote rows."""
        self._wake.set()

    async def run(self) -> None:
        while True:
            try:
                sent = await self.relay_once()
            except (DatabaseUnavailable, BusError) as exc:
                logger.warning("the outbox waits: %s", exc)
                sent = 0
            if sent < BATCH_ROWS:
                await self._wait()

    async def relay_once(self) -> int:
        """Publish and delete up to one batch; the number of rows dealt with."""
        async with self.database.transaction() as session:
            rows = (
                await session.scalars(
                    select(OutboxRow)
                    .where(OutboxRow.service == self.service.value)
                    .order_by(OutboxRow.id)
                    .limit(BATCH_ROWS)
                    .with_for_update(skip_locked=True)
                )
            ).all()
            for row in rows:
                await self._publish(row)
            await session.execute(delete(OutboxRow).where(OutboxRow.id.in_([r.id for r in rows])))
        return len(rows)

    async def _publish(self, row: OutboxRow) -> None:
        headers = {"traceparent": row.traceparent} if row.traceparent else None
        try:
            subject, message = _subject_and_message(row)
            with telemetry.remote_context(headers):
                await self.bus.publish(subject, row.token, message)
        except (Unpublishable, BusPayloadTooLarge) as exc:
            logger.error("outbox row %d for %r is dropped: %s", row.id, row.subject, exc)

    async def _wait(self) -> None:
        # Not wait_for: before Python 3.12 it may swallow a cancellation that meets the wake-up.
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await self._wake.wait()
        self._wake.clear()
