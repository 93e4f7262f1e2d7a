"""What the steps of one stage's start say about its node. Pure.

Each figure is there only if the steps say it by themselves: a stage that waited for its process
says nothing of what follows the last byte, and a fetch that shared the card nothing of the card.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from libs.common.bus.messages import FetchObserved, Step
from libs.common.states import FetchState
from services.scheduler.policy.prediction.quantities import Quantity

STANDBY = "standby"  # the detail of the step `spawn`: where the process came from
MAX_S = 3600.0  # longer is a clock that was set, no start
# Of a fetch that says how fast its card is: a shorter one is made of its beginning and its end.
MIN_FETCH_S = 0.5
MIN_FETCH_BYTES = 8 * 2**20
MIN_COPY_S = 0.02


@dataclass(frozen=True)
class StartedStage:
    """What is known of a worker that has become ready."""

    node_id: str
    weight_bytes: int  # of all its units
    steps: Mapping[str, Step]  # the worker's, by name
    fetch: FetchObserved | None  # that it waited for
    node_fetches: Sequence[FetchObserved] = ()  # all that its node tells of

    def began_at(self, name: str) -> datetime | None:
        step = self.steps.get(name)
        return None if step is None else step.started_at

    def ended_at(self, name: str) -> datetime | None:
        step = self.steps.get(name)
        return None if step is None else step.ended_at


def stage_figures(stage: StartedStage) -> dict[Quantity, float]:
    """Of its node; a quantity that this start does not show is missing."""
    return dict([*_runtime(stage), *_tail(stage), *_network(stage), *_device_copy(stage)])


def _runtime(stage: StartedStage) -> Iterator[tuple[Quantity, float]]:
    spawn = stage.steps.get("spawn")
    is_standby = spawn is not None and spawn.detail == STANDBY
    began_at = stage.began_at("spawn") if is_standby else stage.ended_at("import")
    took_s = _between_s(began_at, stage.ended_at("build_engine"))
    if took_s is not None:
        yield (Quantity.STANDBY_LAUNCH_S if is_standby else Quantity.BUILD_S), took_s


def _tail(stage: StartedStage) -> Iterator[tuple[Quantity, float]]:
    """The weights' step ends with the last verified byte, on the clock of the worker itself. `load`
    ends when the stage can compute; what follows it is the wait for its neighbours. Each is told by
    a thread that looks again and again: the later one may be told first."""
    last_byte_at, loaded_at = stage.ended_at("weights"), stage.ended_at("load")
    if _between_s(stage.ended_at("build_engine"), last_byte_at) is None:
        return  # the bytes had waited for the process, not it for them
    if last_byte_at is not None and loaded_at is not None:
        tail_s = (loaded_at - last_byte_at).total_seconds()
        if abs(tail_s) <= MAX_S:
            yield Quantity.TAIL_S, max(0.0, tail_s)


def _network(stage: StartedStage) -> Iterator[tuple[Quantity, float]]:
    fetch = stage.fetch
    if fetch is None or fetch.state is not FetchState.COMPLETE:
        return
    first_at, last_at = _moment(fetch, "fetch.first_byte"), _moment(fetch, "fetch.last_byte")
    took_s = _between_s(first_at, last_at)
    num_bytes = fetch.bytes_total - fetch.bytes_from_cache
    if took_s is None or took_s < MIN_FETCH_S or num_bytes < MIN_FETCH_BYTES:
        return
    assert first_at is not None and last_at is not None
    others = [x for x in stage.node_fetches if x.fetch_id != fetch.fetch_id]
    if not any(_ran_between(other, first_at, last_at) for other in others):
        yield Quantity.NIC_BYTES_PER_S, num_bytes / took_s


def _device_copy(stage: StartedStage) -> Iterator[tuple[Quantity, float]]:
    began_at = stage.began_at("device_copy")
    if _between_s(stage.ended_at("weights"), began_at) is None:
        return  # it had to wait for bytes
    took_s = _between_s(began_at, stage.ended_at("device_copy"))
    if took_s is not None and took_s >= MIN_COPY_S and stage.weight_bytes:
        yield Quantity.HOST_TO_DEVICE_BYTES_PER_S, stage.weight_bytes / took_s


def _ran_between(fetch: FetchObserved, first_at: datetime, last_at: datetime) -> bool:
    step = next((step for step in fetch.steps if step.name == "fetch"), None)
    if step is None or step.started_at >= last_at:
        return False
    return step.ended_at is None or step.ended_at > first_at


def _moment(fetch: FetchObserved, name: str) -> datetime | None:
    return next((step.ended_at for step in fetch.steps if step.name == name), None)


def _between_s(first_at: datetime | None, then_at: datetime | None) -> float | None:
    """None where one is not known, or they are in another order, or no time of a start."""
    if first_at is None or then_at is None:
        return None
    took_s = (then_at - first_at).total_seconds()
    return took_s if 0 <= took_s <= MAX_S else None
