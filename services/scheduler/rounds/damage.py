"""What a start that failed by damaged bytes in the object store leaves in the rows."""

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import ModelsChanged
from libs.common.bus.subjects import MODELS_CHANGED, Service
from libs.common.records.outbox import enqueue
from services.scheduler.policy import decisions as d
from services.scheduler.policy.failures.damaged_objects import damaged_object, reimport_words
from services.scheduler.store import damaged_objects


async def import_again_if_damaged(session: AsyncSession, decision: d.FailEndpoint) -> None:
    """Marks the object, and has the model imported again. Other models that need the object follow
    with the next look at imports."""
    key = damaged_object(decision.cause)
    if key is None:
        return
    found_by = ", ".join(sorted(decision.suspect_nodes)) or "a node"
    detail = str(decision.cause.facts.get("detail", ""))
    await damaged_objects.mark(session, key, found_by, detail)
    model_id, cause = decision.model_id, reimport_words(key)
    if await damaged_objects.import_again(session, model_id, cause):
        changed = ModelsChanged(model_ids=(model_id,))
        await enqueue(session, Service.SCHEDULER, MODELS_CHANGED, None, changed)
