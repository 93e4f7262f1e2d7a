"""Whatever happens, prefetches keep within their bounds, and are of whom they are for."""

from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.bus.messages import FetchObserved, ModelSummary
from libs.common.states import FetchState, PrefetchState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.planning.memory import files_bytes
from services.scheduler.policy.planning.usable_cluster import usable_cluster
from services.scheduler.policy.scaling.gap_history import GapHistory
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.prefetching.expected import REGULAR, ExpectedModels, auto, sweep
from tests.unit.scheduler.snapshots import a_model
from tests.unit.scheduler.values import summary


@dataclass(frozen=True)
class Drawn:
    """Of one model. `held_on`: a node with an endpoint of it; `cached_on`: one that has all of it,
    and `first_on` one that has its first unit."""

    num_bytes: int
    idle_s: float
    is_auto: bool
    is_regular: bool
    held_on: int | None
    cached_on: int | None
    first_on: int | None

    @property
    def is_expected(self) -> bool:
        """Without an endpoint."""
        return self.is_auto and self.is_regular and self.held_on is None


_NODE = st.one_of(st.none(), st.none(), st.none(), st.integers(0, 2))
_MODEL = st.builds(
    Drawn,
    num_bytes=st.integers(50, 600),
    idle_s=st.floats(300.0, 560.0),
    is_auto=st.sampled_from([True, True, True, False]),
    is_regular=st.sampled_from([True, True, True, False]),
    held_on=_NODE,
    cached_on=_NODE,
    first_on=_NODE,
)
_CACHES = st.lists(st.integers(4_000, 120_000), min_size=3, max_size=3)
_STEP = st.lists(st.sampled_from([None, FetchState.COMPLETE, FetchState.FAILED]), max_size=12)


def weights_of(index: int, drawn: Drawn) -> ModelSummary:
    made = summary(unit_sizes=(10, drawn.num_bytes, drawn.num_bytes, 10))
    units = tuple(
        unit.model_copy(update={"digest": f"{100 * index + i:064x}"})
        for i, unit in enumerate(made.units)
    )
    return made.model_copy(update={"units": units})


def world_of(models: list[Drawn], caches: list[int], limits: Limits) -> ExpectedModels:
    made = ExpectedModels()
    made.cluster.limits = limits
    for index, cache_bytes in enumerate(caches):
        made.add_node(f"node-{index}", memory_bytes=3000, cache_capacity_bytes=cache_bytes)
    for index, drawn in enumerate(models):
        weights, name = weights_of(index, drawn), f"model-{index}"
        model = auto(name, is_keep_alive_auto=drawn.is_auto, max_pipeline_size=1 + index % 3)
        made.gaps = REGULAR if drawn.is_regular else GapHistory()
        made.add_model(model, weights, idle_s=drawn.idle_s)
        digests = [unit.digest for unit in weights.units]
        if drawn.held_on is not None:
            made.serve(a_model(name), weights, node_id=f"node-{drawn.held_on}")
            made.cluster.models[name] = replace(model, is_keep_alive_auto=False)
        if drawn.cached_on is not None:
            made.hold(f"node-{drawn.cached_on}", *digests)
        if drawn.first_on is not None:
            made.hold(f"node-{drawn.first_on}", digests[0])
    return made


def require_bounds(snapshot: Snapshot) -> None:
    limits, cluster = snapshot.limits, usable_cluster(snapshot)
    running = [p for p in snapshot.prefetches if p.state is PrefetchState.RUNNING]
    assert len(running) <= limits.max_prefetches
    for node in cluster.nodes:
        own = snapshot.prefetches.by("node", node.id)
        now = [p for p in own if p.state is PrefetchState.RUNNING]
        assert len(now) <= limits.max_prefetches_per_node
        assert node.cache_bytes is not None
        share_bytes = limits.prefetch_cache_share * node.cache_bytes
        assert sum(p.file_bytes for p in own) <= share_bytes
        assert sum(p.file_bytes for p in now) + node.held_bytes <= node.cache_bytes or not now


def has_place(models: list[Drawn], index: int, caches: list[int]) -> bool:
    """A node has its weights, and room for those of all models: it can start there at once."""
    cached_on = models[index].cached_on
    all_bytes = sum(files_bytes(weights_of(i, drawn)) for i, drawn in enumerate(models))
    return cached_on is not None and caches[cached_on] >= all_bytes


def hear(made: ExpectedModels, snapshot: Snapshot, said: list[FetchState | None]) -> None:
    """What fetchers say of the fetches that run."""
    running = [p for p in snapshot.prefetches if p.state is PrefetchState.RUNNING]
    for prefetch, state in zip(running, said, strict=False):
        if state is not None:
            seen = FetchObserved(fetch_id=prefetch.fetch_id, state=state)
            made.cluster.hear_fetch(prefetch.node_id, seen)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(_MODEL, min_size=1, max_size=8),
    _CACHES,
    st.integers(1, 4),
    st.sampled_from([0.25, 0.5]),
    st.lists(_STEP, min_size=3, max_size=8),
)
def test_prefetches_stay_within_their_bounds_and_are_of_whom_they_are_for(
    models: list[Drawn],
    caches: list[int],
    most: int,
    share: float,
    steps: list[list[FetchState | None]],
) -> None:
    made = world_of(models, caches, Limits(max_prefetches=most, prefetch_cache_share=share))
    begun: list[d.StartPrefetch] = []
    for number, said in enumerate(steps):
        found = sweep(made.snapshot())
        require_bounds(found.after)
        begun += found.starts
        hear(made, found.after, said)
        made.cluster.follow(found.after)
        made.cluster.now_s += 20.0
        kept = ("prefetches", "prefetch_looks_s", "swept", "queue", "places")
        made.changes = {name: getattr(found.after, name) for name in kept}
        made.changes["nonce"] = f"round {number}"
    for start in begun:
        index = int(start.model_id.removeprefix("model-"))
        assert models[index].is_expected and not has_place(models, index, caches)
        assert start.prefetch.file_bytes <= files_bytes(weights_of(index, models[index]))
    assert len({start.prefetch.id for start in begun}) == len(begun)
    assert len({start.prefetch.fetch_id for start in begun}) == len(begun)


@settings(max_examples=30, deadline=None)
@given(st.lists(_MODEL, min_size=1, max_size=6), _CACHES)
def test_the_same_snapshot_gives_the_same_prefetches(
    models: list[Drawn], caches: list[int]
) -> None:
    made = world_of(models, caches, Limits())

    assert sweep(made.snapshot()).starts == sweep(made.snapshot()).starts
