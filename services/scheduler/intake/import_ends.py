"""How an import ends, the first one of a model and those that make damaged objects whole again."""

import logging
from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import ImportProgressed, ModelsChanged, ModelSummary
from libs.common.bus.subjects import MODELS_CHANGED, Service
from libs.common.records.outbox import enqueue
from libs.common.states import ImportState
from libs.common.weights.manifest import manifest_key, tokenizer_key, unit_key
from services.scheduler.policy.failures.damaged_objects import lost_words, reimport_words
from services.scheduler.store import damaged_objects, models

logger = logging.getLogger(__name__)

MAX_ANNOUNCED = 1_000  # models in a message


async def follow_damage(session: AsyncSession) -> None:
    """Models that need what was found damaged are imported again, and READY where others have made
    it whole."""
    changed = await damaged_objects.forget_whole(session)
    for spoiled in await damaged_objects.take_spoiled(session):
        cause = reimport_words(spoiled.key)
        if await damaged_objects.import_again(session, spoiled.model_id, cause):
            logger.error("model %s: %s", spoiled.model_id, cause)
            changed.append(spoiled.model_id)
    await announce(session, changed)


async def end_import(session: AsyncSession, report: ImportProgressed) -> bool:
    """READY or FAILED; False when the import is stale or was finished before."""
    before = await models.lock_importing(session, report.model_id, report.import_id)
    if before is None:
        return False
    failure = _failure(report, before.manifest_digest)
    if failure is not None:
        if before.manifest_digest is not None:
            keys = await damaged_objects.needed_by(session, before.manifest_digest)
            failure = lost_words(keys, failure)
        return await models.fail_import(session, report.model_id, report.import_id, failure)
    assert report.manifest_digest is not None and report.summary is not None
    is_done = await models.finish_import(
        session, report.model_id, report.import_id, report.manifest_digest, report.summary
    )
    whole = _keys(report.manifest_digest, report.summary)
    await announce(session, await damaged_objects.forget(session, whole))
    return is_done


async def announce(session: AsyncSession, model_ids: Collection[str]) -> None:
    """To gateways, and to this scheduler's own rounds."""
    ids = tuple(model_ids)
    for first in range(0, len(ids), MAX_ANNOUNCED):
        changed = ModelsChanged(model_ids=ids[first : first + MAX_ANNOUNCED])
        await enqueue(session, Service.SCHEDULER, MODELS_CHANGED, None, changed)


def _failure(report: ImportProgressed, known_digest: str | None) -> str | None:
    """Why it came to nothing; None where it is done. A model keeps the weights that it had."""
    if report.state is ImportState.FAILED:
        return report.cause or "the fetcher gave no cause"
    if report.manifest_digest is None or report.summary is None:
        return "the fetcher ended the import without a manifest"
    if known_digest not in (None, report.manifest_digest):
        return "its source is not what was registered, other weights would come of it"
    return None


def _keys(manifest_digest: str, summary: ModelSummary) -> list[str]:
    """Of all objects that the import has seen whole, or written."""
    return [
        manifest_key(manifest_digest),
        *(unit_key(unit.digest) for unit in summary.units),
        *(tokenizer_key(digest) for digest, _ in summary.tokenizer_files.values()),
    ]
