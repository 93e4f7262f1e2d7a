"""Which desired state counts, and what it asks of the workers that are there. Pure."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from libs.common.bus.messages import DesiredReply, NodeDesired, WorkerSpec
from libs.common.states import FetchClass

MAX_RETIRED = 65_536  # worker ids that must never start again, remembered within a boot


class DesiredLog:
    """Remembers the highest leader epoch and version; refuses what is older, or was meant for an
    earlier boot: the workers of that one have ended."""

    def __init__(self, boot_id: str) -> None:
        self._boot_id = boot_id
        self._current: NodeDesired | None = None

    @property
    def current(self) -> NodeDesired | None:
        return self._current

    @property
    def version(self) -> int:
        return self._current.version if self._current is not None else 0

    def accept(self, desired: NodeDesired) -> DesiredReply:
        """A reply without `refused` means that this version, or again the same, is now followed."""
        refused = self._refusal(desired)
        if refused is None:
            self._current = desired
        return DesiredReply(accepted_version=self.version, refused=refused)

    def _refusal(self, desired: NodeDesired) -> str | None:
        known = self._current
        if desired.boot_id not in (None, self._boot_id):
            return f"it was meant for boot {desired.boot_id}, this is {self._boot_id}"
        if known is None or desired.leader_epoch > known.leader_epoch:
            return None
        if desired.leader_epoch < known.leader_epoch:
            return f"leader epoch {desired.leader_epoch} is over, {known.leader_epoch} leads"
        if desired.version < known.version:
            return f"version {desired.version} is older than {known.version}"
        return None


@dataclass(frozen=True)
class Changes:
    """What must happen so that the workers are as desired."""

    launch: tuple[WorkerSpec, ...]
    update: tuple[WorkerSpec, ...]  # there already; may have begun to drain
    remove: tuple[str, ...]  # named as stopped: stop those that run, forget those that ended
    missing: tuple[str, ...]  # nothing is said of them


def changes(desired: NodeDesired, present: Mapping[str, object], retired: "Retired") -> Changes:
    """`present` has the ids of workers that run, and of ended ones that were still desired."""
    wanted = {spec.worker_id: spec for spec in desired.workers}
    named = {*wanted, *desired.stopped_workers}
    return Changes(
        launch=tuple(s for i, s in wanted.items() if i not in present and i not in retired),
        update=tuple(spec for worker_id, spec in wanted.items() if worker_id in present),
        remove=tuple(worker_id for worker_id in desired.stopped_workers if worker_id in present),
        missing=tuple(worker_id for worker_id in present if worker_id not in named),
    )


class MissingWorkers:
    """Workers that the desired state does not speak of, and since when.

    They go on for a while: a scheduler whose database was restored from an older state does not
    know them yet, or learns of them from their node.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._since_s: dict[str, float] = {}

    def note(self, worker_ids: Iterable[str], now_s: float) -> None:
        """These are missing now, and no others."""
        self._since_s = {id_: self._since_s.get(id_, now_s) for id_ in worker_ids}

    def take_due(self, now_s: float) -> tuple[str, ...]:
        """Those that have been missing for too long, each once."""
        due = tuple(i for i, since in self._since_s.items() if now_s - since >= self._grace_s)
        for worker_id in due:
            del self._since_s[worker_id]
        return due


class Retired:
    """Ids of workers that were undesired: a stopped worker id never starts again."""

    def __init__(self, max_ids: int = MAX_RETIRED) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._max_ids = max_ids

    def __contains__(self, worker_id: str) -> bool:
        return worker_id in self._ids

    def add(self, worker_id: str) -> None:
        self._ids[worker_id] = None
        while len(self._ids) > self._max_ids:
            self._ids.popitem(last=False)


def fetch_class_of(worker: WorkerSpec, desired: NodeDesired) -> FetchClass:
    """How urgently a worker's units are fetched: background only if every fetch of them is."""
    units = frozenset(worker.unit_digests)
    fetches = [f for f in desired.fetches if not units.isdisjoint(f.unit_digests)]
    is_background = [fetch.fetch_class is FetchClass.BACKGROUND for fetch in fetches]
    return FetchClass.BACKGROUND if fetches and all(is_background) else FetchClass.INTERACTIVE
