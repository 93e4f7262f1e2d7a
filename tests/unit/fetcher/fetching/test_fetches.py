from pathlib import Path

import pytest

from libs.common.bus.messages import NodeDesired
from libs.common.cause_words import words
from libs.common.causes import Cause, CauseKind, Fault
from libs.common.states import FetchClass, FetchPurpose, FetchState
from libs.common.testing.objectstore import MemoryObjectStore
from libs.common.told_steps import TOLD_S
from libs.common.weights.unitwriter import file_size_bytes
from services.fetcher.errors import HostCacheFull
from tests.unit.fetcher.nodes import NODE, Node, StoredModel, running_node, stored_model
from tests.unit.fetcher.worlds import eventually


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore()


def size_of(model: StoredModel) -> int:
    return sum(file_size_bytes(unit) for unit in model.units)


def is_complete(node: Node, fetch_id: str = "fetch-1") -> bool:
    return node.observed(fetch_id).state is FetchState.COMPLETE


async def test_a_desired_fetch_is_done_and_told(tmp_path: Path, store: MemoryObjectStore) -> None:
    model = await stored_model(store)
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch())

        await eventually(lambda: is_complete(node))
        heartbeat = node.service.heartbeat()

    observed = heartbeat.fetches[0]
    assert observed.bytes_done == observed.bytes_total == model.manifest.total_bytes
    assert [step.name for step in observed.steps] == [
        "fetch",
        "fetch.first_byte",
        "fetch.readable_25%",
        "fetch.readable_50%",
        "fetch.readable_75%",
        "fetch.readable_100%",
        "fetch.last_byte",
        "fetch.hashed",
    ]
    assert "s of hashing" in observed.steps[-1].detail
    assert all(step.ended_at is not None for step in observed.steps)
    assert set(heartbeat.host_cache.added) == {unit.digest for unit in model.units}
    assert heartbeat.accepted_version == 1


async def test_the_steps_of_a_fetch_leave_what_is_told_some_time_after_its_end(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store)
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch())
        await eventually(lambda: is_complete(node))
        record = node.fetches._records["fetch-1"]
        await eventually(lambda: record.ended_at_s is not None)

    assert record.ended_at_s is not None
    assert record.observed(record.ended_at_s + TOLD_S - 0.1).steps
    later = record.observed(record.ended_at_s + TOLD_S)
    assert (later.steps, later.bytes_done) == ((), model.manifest.total_bytes)


async def test_a_second_fetch_of_the_same_units_comes_from_the_cache(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store)
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch("fetch-1"))
        await eventually(lambda: is_complete(node))
        read = store.bytes_read

        await node.want(model.fetch("fetch-2"))
        await eventually(lambda: is_complete(node, "fetch-2"))
        observed = node.observed("fetch-2")

    assert store.bytes_read == read
    assert observed.bytes_from_cache == model.manifest.total_bytes


async def test_what_another_split_or_model_left_is_not_fetched_again(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    base = await stored_model(store)
    variant = await stored_model(store, num_layers=4)  # the same layers and one more
    stage = {"unit_digests": tuple(unit.digest for unit in base.units[:2])}
    async with running_node(tmp_path, store) as node:
        await node.want(base.fetch("fetch-1").model_copy(update=stage))
        await eventually(lambda: is_complete(node, "fetch-1"))
        await node.want(base.fetch("fetch-2"))
        await eventually(lambda: is_complete(node, "fetch-2"))
        whole = node.observed("fetch-2")
        await node.want(variant.fetch("fetch-3"))
        await eventually(lambda: is_complete(node, "fetch-3"))
        other = node.observed("fetch-3")

    assert whole.bytes_from_cache == sum(unit.size_bytes for unit in base.units[:2])
    assert other.bytes_total - other.bytes_from_cache == variant.units[4].size_bytes
    assert store.bytes_read == variant.manifest.total_bytes


async def test_a_restarted_fetcher_serves_from_what_it_finds(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store)
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch())
        await eventually(lambda: is_complete(node))
    read = store.bytes_read

    async with running_node(tmp_path, store) as node:
        assert node.service.heartbeat().host_cache.num_units == len(model.units)
        await node.want(model.fetch())
        await eventually(lambda: is_complete(node))

    assert store.bytes_read == read


async def test_a_fetch_that_nobody_wants_any_more_stops(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store, width=256)
    store.hold_after_bytes = 100_000
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch())
        await eventually(lambda: store.bytes_read > 100_000)

        await node.want()
        store.release()
        await eventually(lambda: not node.cache.pin_owners)

    assert store.bytes_read < model.manifest.total_bytes


async def test_units_of_a_cancelled_fetch_are_resumed_by_the_next(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store, width=256)
    store.hold_after_bytes = 300_000
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch("fetch-1"))
        await eventually(lambda: store.bytes_read > 300_000)
        await node.want(model.fetch("fetch-2"))
        store.release()

        await eventually(lambda: is_complete(node, "fetch-2"))

    assert store.bytes_read < model.manifest.total_bytes + 500_000


async def test_no_room_fails_the_fetch_with_the_numbers(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store)
    capacity = size_of(model) - 1
    async with running_node(tmp_path, store, capacity_bytes=capacity) as node:
        await node.want(model.fetch())
        await eventually(lambda: node.observed().state is FetchState.FAILED)

        cause = node.observed().cause

    assert cause is not None
    assert cause.fault is Fault.NODE, "another node may have the room"
    assert f"no room for {size_of(model)} bytes: 0 of {capacity} are used" in words(cause)


async def test_a_fetch_waits_for_room_that_comes(tmp_path: Path, store: MemoryObjectStore) -> None:
    first, second = await stored_model(store), await stored_model(store, seed=100)
    async with running_node(tmp_path, store, capacity_bytes=size_of(first)) as node:
        await node.want(first.fetch("fetch-1"))
        await eventually(lambda: is_complete(node))
        await node.want(first.fetch("fetch-1"), second.fetch("fetch-2"))
        assert node.observed("fetch-2").state is FetchState.QUEUED

        await node.want(second.fetch("fetch-2"))

        await eventually(lambda: is_complete(node, "fetch-2"))


async def test_a_missing_unit_fails_the_fetch_and_names_it(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store)
    await store.delete(model.units[1].key)
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch())
        await eventually(lambda: node.observed().state is FetchState.FAILED)

        cause = Cause(CauseKind.UNIT_MISSING, {"key": model.units[1].key})
        assert node.observed().cause == cause


async def test_a_failed_unit_can_be_fetched_again_in_the_same_file(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store)
    unit = model.units[1]
    await store.delete(unit.key)
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch("fetch-1"))
        await eventually(lambda: node.observed().state is FetchState.FAILED)

        await store.put_bytes(unit.key, model.data[unit.digest], digest=unit.digest)
        await node.want(model.fetch("fetch-2"))

        await eventually(lambda: is_complete(node, "fetch-2"))


@pytest.mark.parametrize("damage", ["missing", "altered"])
async def test_a_manifest_that_is_not_what_its_digest_says_fails_the_fetch(
    tmp_path: Path, store: MemoryObjectStore, damage: str
) -> None:
    model = await stored_model(store)
    key = f"manifests/{model.digest}"
    await store.delete(key)
    if damage == "altered":
        await store.put_bytes(key, b"{}", digest=model.digest)
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch())
        await eventually(lambda: node.observed().state is FetchState.FAILED)

        cause = node.observed().cause
        assert cause is not None and cause.fault is Fault.STORE
        assert key in words(cause)


async def test_a_class_that_changes_is_followed(tmp_path: Path, store: MemoryObjectStore) -> None:
    model = await stored_model(store, width=256)
    store.hold_after_bytes = 0
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch(fetch_class=FetchClass.BACKGROUND))
        await eventually(lambda: node.observed().state is FetchState.FETCHING)

        await node.want(model.fetch(fetch_class=FetchClass.INTERACTIVE))

        fetch = node.fetches._records["fetch-1"].fetch
        assert fetch is not None and fetch.flow.fetch_class is FetchClass.INTERACTIVE


@pytest.mark.parametrize(
    ("epoch", "version", "node_id", "refusal"),
    [
        pytest.param(1, 9, NODE, "epoch 1 is older", id="an old leader"),
        pytest.param(2, 4, NODE, "version 4 is older", id="an old version"),
        pytest.param(2, 9, "node-2", "this is node", id="another node's"),
    ],
)
async def test_a_desired_state_that_is_out_of_date_is_refused(
    tmp_path: Path,
    store: MemoryObjectStore,
    epoch: int,
    version: int,
    node_id: str,
    refusal: str,
) -> None:
    async with running_node(tmp_path, store) as node:
        latest = NodeDesired(node_id=NODE, leader_epoch=2, version=5)
        await node.service.follow(latest)

        reply = await node.service.follow(
            NodeDesired(node_id=node_id, leader_epoch=epoch, version=version)
        )
        again = await node.service.follow(latest)

    assert reply.accepted_version == 5
    assert refusal in str(reply.refused)
    assert again.refused is None


async def test_a_new_leader_counts_its_versions_anew(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    async with running_node(tmp_path, store) as node:
        await node.service.follow(NodeDesired(node_id=NODE, leader_epoch=2, version=5))

        reply = await node.service.follow(NodeDesired(node_id=NODE, leader_epoch=3, version=1))

    assert (reply.accepted_version, reply.refused) == (1, None)


async def test_a_fetch_dropped_and_wanted_again_at_once_keeps_its_units(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store, width=256)
    store.hold_after_bytes = 300_000
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch())
        await eventually(lambda: store.bytes_read > 300_000)
        await node.want()
        await node.want(model.fetch())
        store.release()
        await eventually(lambda: is_complete(node))
        await eventually(lambda: len(node.cache.pin_owners) == 1)  # the dropped one's is gone

        assert node.cache.complete_digests == tuple(sorted(unit.digest for unit in model.units))


@pytest.mark.parametrize(
    ("fetch_class", "least", "most"),
    [
        pytest.param(FetchClass.INTERACTIVE, 0.5, 1.0, id="equals share the link"),
        pytest.param(FetchClass.BACKGROUND, 0.0, 0.3, id="background waits"),
    ],
)
async def test_two_models_at_once_share_the_link_as_their_classes_say(
    tmp_path: Path,
    store: MemoryObjectStore,
    fetch_class: FetchClass,
    least: float,
    most: float,
) -> None:
    first = await stored_model(store, width=512, chunk_size_bytes=1 << 18)
    second = await stored_model(store, width=512, chunk_size_bytes=1 << 18, seed=100)
    async with running_node(tmp_path, store, rate=10_000_000) as node:
        await node.want(first.fetch("fetch-1"), second.fetch("fetch-2", fetch_class))
        await eventually(lambda: is_complete(node, "fetch-1"))
        had = node.observed("fetch-2").bytes_done / second.manifest.total_bytes
        await eventually(lambda: is_complete(node, "fetch-2"))

    assert least <= had <= most


@pytest.mark.parametrize("is_dropped", [False, True], ids=["beside it", "in its place"])
async def test_a_start_goes_on_with_what_a_prefetch_has_begun(
    tmp_path: Path, store: MemoryObjectStore, is_dropped: bool
) -> None:
    """The scheduler drops the prefetch once the fetcher has the fetch of the start. The read that
    is under way at that moment may be done again, and no other."""
    model = await stored_model(store, width=256)
    prefetch = model.fetch("prefetch", FetchClass.BACKGROUND, FetchPurpose.PREFETCH)
    start = model.fetch("start")
    store.hold_after_bytes = 300_000
    async with running_node(tmp_path, store) as node:
        await node.want(prefetch)
        await eventually(lambda: store.bytes_read > 300_000)
        await node.want(prefetch, start)
        await eventually(lambda: node.observed("start").bytes_total > 0)

        if is_dropped:
            await node.want(start)
        store.release()
        await eventually(lambda: is_complete(node, "start"))
        if not is_dropped:
            await eventually(lambda: is_complete(node, "prefetch"))
        assert node.observed("start").bytes_done == model.manifest.total_bytes

    assert store.max_read_bytes < store.hold_after_bytes, "less than what had come by then"
    num_again = store.bytes_read - model.manifest.total_bytes
    assert 0 <= num_again <= (store.max_read_bytes if is_dropped else 0)


async def test_two_fetches_with_some_units_in_common_fetch_those_once(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store, width=256)
    store.hold_after_bytes = 0
    async with running_node(tmp_path, store) as node:
        await node.want(
            model.fetch("first", units=slice(3)), model.fetch("second", units=slice(1, None))
        )
        await eventually(lambda: node.observed("second").state is FetchState.FETCHING)
        store.release()
        await eventually(lambda: is_complete(node, "first") and is_complete(node, "second"))

        assert node.service.heartbeat().host_cache.num_units == len(model.units)
    assert store.bytes_read == model.manifest.total_bytes


async def test_units_of_a_fetch_that_vanished_stay_for_the_other_one_that_wants_them(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store, width=256)
    room = size_of(model)
    store.hold_after_bytes = 300_000
    async with running_node(tmp_path, store, capacity_bytes=room) as node:
        start, more = model.fetch("start", units=slice(3)), model.fetch("more")
        await node.want(start, more)
        await eventually(lambda: store.bytes_read > 300_000)

        await node.want(more)
        store.release()
        await eventually(lambda: is_complete(node, "more"))

        with pytest.raises(HostCacheFull):
            await node.cache.make_room((await stored_model(store, seed=100)).units[:1])
    assert node.cache.complete_digests == tuple(sorted(unit.digest for unit in model.units))


async def test_what_a_prefetch_brought_stays_when_nobody_wants_it_any_more(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store)
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch(purpose=FetchPurpose.PREFETCH))
        await eventually(lambda: is_complete(node))
        await node.want()

        await node.want(model.fetch("start"))
        await eventually(lambda: is_complete(node, "start"))

    assert store.bytes_read == model.manifest.total_bytes


async def test_a_class_that_rises_speeds_up_the_fetch_that_runs(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    """Without a limit of the card a background fetch stands still beside an interactive one."""
    first = await stored_model(store, width=256)
    second = await stored_model(store, width=256, seed=100)
    store.hold_after_bytes = 0
    async with running_node(tmp_path, store) as node:
        await node.want(first.fetch("first"), second.fetch("second", FetchClass.BACKGROUND))
        await eventually(lambda: node.observed("second").state is FetchState.FETCHING)
        running = node.fetches._records["second"].task

        await node.want(first.fetch("first"), second.fetch("second", FetchClass.INTERACTIVE))
        store.release()
        await eventually(lambda: is_complete(node, "second"))

        assert node.fetches._records["second"].task is running
    assert store.bytes_read == first.manifest.total_bytes + second.manifest.total_bytes


async def test_a_class_that_rises_while_a_fetch_waits_for_room_counts_when_it_runs(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    first, second = await stored_model(store), await stored_model(store, seed=100)
    async with running_node(tmp_path, store, capacity_bytes=size_of(first)) as node:
        await node.want(first.fetch("first"))
        await eventually(lambda: is_complete(node, "first"))
        await node.want(first.fetch("first"), second.fetch("second", FetchClass.BACKGROUND))
        assert node.observed("second").state is FetchState.QUEUED

        await node.want(second.fetch("second", FetchClass.INTERACTIVE))
        await eventually(lambda: is_complete(node, "second"))

        fetch = node.fetches._records["second"].fetch
        assert fetch is not None and fetch.flow.fetch_class is FetchClass.INTERACTIVE


async def test_a_fetch_that_comes_after_its_deadline_goes_on_and_says_so(
    tmp_path: Path, store: MemoryObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    model = await stored_model(store)
    late = model.fetch().model_copy(update={"deadline_ms": 0})
    in_time = model.fetch("fetch-2").model_copy(update={"deadline_ms": 60_000})
    async with running_node(tmp_path, store) as node:
        await node.want(late, in_time)
        await eventually(lambda: is_complete(node) and is_complete(node, "fetch-2"))

    said = {m.split()[1]: m for m in caplog.messages if "is complete" in m}
    assert "too late" in said["fetch-1"]
    assert "too late" not in said["fetch-2"]
