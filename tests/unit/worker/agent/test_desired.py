import pytest

from libs.common.bus.messages import FetchSpec, NodeDesired
from libs.common.states import FetchClass, FetchPurpose
from services.worker.agent.desired import (
    Changes,
    DesiredLog,
    MissingWorkers,
    Retired,
    changes,
    fetch_class_of,
)
from tests.unit.worker.values import worker_spec


def desired(epoch: int, version: int, *worker_ids: str, boot_id: str | None = None) -> NodeDesired:
    return NodeDesired(
        node_id="node-a",
        boot_id=boot_id,
        leader_epoch=epoch,
        version=version,
        workers=tuple(worker_spec(worker_id) for worker_id in worker_ids),
    )


@pytest.mark.parametrize(
    ("epoch", "version", "refused"),
    [
        pytest.param(2, 6, None, id="newer"),
        pytest.param(2, 5, None, id="the same again"),
        pytest.param(2, 4, "older than 5", id="overtaken on the way"),
        pytest.param(1, 9, "epoch 1 is over", id="a deposed leader"),
        pytest.param(3, 4, None, id="a new leader is believed"),
    ],
)
def test_only_the_latest_leader_and_its_latest_version_are_followed(
    epoch: int, version: int, refused: str | None
) -> None:
    log = DesiredLog("boot-b")
    log.accept(desired(2, 5))

    reply = log.accept(desired(epoch, version))

    if refused is None:
        assert reply.refused is None and reply.accepted_version == version == log.version
    else:
        assert reply.refused is not None and refused in reply.refused
        assert reply.accepted_version == log.version == 5


def test_what_an_earlier_boot_was_told_is_not_followed() -> None:
    log = DesiredLog("boot-b")

    reply = log.accept(desired(2, 5, "worker-a", boot_id="boot-a"))

    assert reply.refused is not None and "boot-a" in reply.refused
    assert (reply.accepted_version, log.current) == (0, None)
    assert log.accept(desired(2, 5, boot_id="boot-b")).refused is None


def test_workers_are_launched_updated_and_removed_as_desired() -> None:
    present = {"worker-b": object(), "worker-c": object()}
    state = desired(1, 1, "worker-a", "worker-b")
    state = state.model_copy(update={"stopped_workers": ("worker-c", "worker-gone")})
    due = changes(state, {**present, "worker-d": object()}, Retired())
    assert due == Changes(
        launch=(worker_spec("worker-a"),),
        update=(worker_spec("worker-b"),),
        remove=("worker-c",),
        missing=("worker-d",),
    )


def test_a_missing_worker_is_due_once_it_was_missing_all_the_time() -> None:
    missing = MissingWorkers(grace_s=10)
    missing.note(["worker-a", "worker-b"], 100.0)
    missing.note(["worker-b"], 104.0)  # somebody spoke of worker-a
    missing.note(["worker-a", "worker-b"], 105.0)

    assert missing.take_due(109.9) == ()
    assert missing.take_due(110.0) == ("worker-b",)
    assert missing.take_due(115.0) == ("worker-a",)
    assert missing.take_due(999.0) == ()


def test_a_retired_worker_id_is_not_launched_again() -> None:
    retired = Retired()
    retired.add("worker-a")
    assert changes(desired(1, 1, "worker-a"), {}, retired).launch == ()


def test_only_so_many_retired_ids_are_remembered() -> None:
    retired = Retired(max_ids=2)
    for worker_id in ("worker-a", "worker-b", "worker-c"):
        retired.add(worker_id)
    assert "worker-a" not in retired
    assert "worker-b" in retired and "worker-c" in retired


def fetch(fetch_class: FetchClass, *units: str) -> FetchSpec:
    return FetchSpec(
        fetch_id=f"fetch-{fetch_class}",
        purpose=FetchPurpose.START,
        fetch_class=fetch_class,
        manifest_digest="0" * 64,
        unit_digests=tuple(unit * 64 for unit in units),
    )


@pytest.mark.parametrize(
    ("fetches", "expected"),
    [
        pytest.param([], FetchClass.INTERACTIVE, id="nobody says"),
        pytest.param([fetch(FetchClass.BACKGROUND, "1")], FetchClass.BACKGROUND, id="its own"),
        pytest.param([fetch(FetchClass.BACKGROUND, "2")], FetchClass.INTERACTIVE, id="other units"),
        pytest.param(
            [fetch(FetchClass.BACKGROUND, "1", "2"), fetch(FetchClass.INTERACTIVE, "1")],
            FetchClass.INTERACTIVE,
            id="prefetched, then wanted",
        ),
    ],
)
def test_a_workers_weights_are_as_urgent_as_the_fetches_of_its_units(
    fetches: list[FetchSpec], expected: FetchClass
) -> None:
    state = desired(1, 1, "worker-a").model_copy(update={"fetches": tuple(fetches)})
    worker = state.workers[0].model_copy(update={"unit_digests": ("1" * 64,)})

    assert fetch_class_of(worker, state) is expected
