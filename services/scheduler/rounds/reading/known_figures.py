"""What was measured, in the snapshot: of nodes and the cluster from the beginning, of a model once
it runs or is asked for."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.policy.prediction.figures import Figures
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.rounds.change_log import ChangeLog
from services.scheduler.store import measurements

MAX_MODELS = 4096  # more than are known, before those that nothing needs are left out


async def load_figures(session: AsyncSession) -> Figures:
    """For a leader that begins."""
    return Figures().adding(await measurements.load_shared(session))


async def read_models(
    session: AsyncSession, snapshot: Snapshot, log: ChangeLog, *, is_sweep: bool
) -> Snapshot:
    """With what rows have of models that became known since: one statement for all of them."""
    figures, known = snapshot.measured, snapshot.models
    if is_sweep and len(figures.models) > MAX_MODELS + len(known):
        figures = figures.of_models(known)
    candidates = known if is_sweep else [id_ for id_ in log.models if id_ in known]
    missing = [id_ for id_ in candidates if id_ not in figures.models]
    if missing:
        found = await measurements.load_of_models(session, missing)
        figures = figures.knowing(missing).adding(found)
    return snapshot if figures is snapshot.measured else snapshot.changed(measured=figures)
