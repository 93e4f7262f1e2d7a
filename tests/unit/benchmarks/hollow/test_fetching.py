"""Real fetches over hollow parts."""

import asyncio

from benchmarks.controlplane.catalogue import Catalogue, manifest_digest, summary
from benchmarks.controlplane.hollow.fetching.fetcher import HollowFetcher, build_fetcher
from benchmarks.controlplane.hollow.fetching.manifests import CatalogueManifests, manifest_of
from benchmarks.controlplane.hollow.fetching.nic import SimulatedNic
from libs.common.bus.messages import FetchObserved, FetchSpec, NodeDesired
from libs.common.causes import CauseKind
from libs.common.states import FetchClass, FetchPurpose, FetchState
from services.fetcher.fetching.governor import Flow
from tests.unit.benchmarks.hollow.worlds import hollow_settings, host_cache
from tests.unit.fetcher.worlds import eventually

NODE = "hollow-00000"


def fetcher(*numbers: int) -> HollowFetcher:
    settings = hollow_settings(nic_bytes_per_s=10**13, first_byte={"mean_s": 0})
    manifests = CatalogueManifests(settings.catalogue)
    return build_fetcher(settings, NODE, host_cache(*numbers), manifests)


def fetch_of(number: int, fetch_id: str = "fetch-a", manifest: str | None = None) -> FetchSpec:
    return FetchSpec(
        fetch_id=fetch_id,
        purpose=FetchPurpose.START,
        fetch_class=FetchClass.INTERACTIVE,
        manifest_digest=manifest or manifest_digest(number),
        unit_digests=tuple(unit.digest for unit in manifest_of(number).units),
    )


async def ended(told: HollowFetcher, *fetches: FetchSpec) -> tuple[FetchObserved, ...]:
    desired = NodeDesired(node_id=NODE, leader_epoch=1, version=1, fetches=fetches)
    await told.service.follow(desired)
    running = (FetchState.QUEUED, FetchState.FETCHING)
    await eventually(lambda: all(f.state not in running for f in told.service.heartbeat().fetches))
    return told.service.heartbeat().fetches


async def test_a_fetch_is_told_with_its_bytes_and_steps() -> None:
    (fetch,) = await ended(fetcher(), fetch_of(1))

    assert fetch.state is FetchState.COMPLETE
    assert (
        fetch.bytes_done
        == fetch.bytes_total
        == sum(unit.size_bytes for unit in manifest_of(1).units)
    )
    assert fetch.bytes_from_cache == 0
    assert {step.name for step in fetch.steps} >= {
        "fetch",
        "fetch.first_byte",
        "fetch.readable_100%",
        "fetch.last_byte",
        "fetch.hashed",
    }
    assert all(step.ended_at is not None for step in fetch.steps)


async def test_two_fetches_of_the_same_units_share_the_work() -> None:
    told = fetcher()
    first, second = await ended(told, fetch_of(1), fetch_of(1, "fetch-b"))

    assert first.bytes_done == second.bytes_done == first.bytes_total
    assert {first.state, second.state} == {FetchState.COMPLETE}


async def test_what_the_node_held_from_the_start_comes_from_its_cache() -> None:
    (fetch,) = await ended(fetcher(1), fetch_of(1))

    assert fetch.state is FetchState.COMPLETE
    assert fetch.bytes_from_cache == fetch.bytes_total


async def test_a_manifest_of_no_hollow_model_fails_the_fetch() -> None:
    (fetch,) = await ended(fetcher(), fetch_of(1, manifest="ab" * 32))

    assert fetch.state is FetchState.FAILED
    assert fetch.cause is not None and fetch.cause.kind is CauseKind.UNIT_MISSING


async def test_interactive_bytes_go_before_background_ones_and_flows_share_evenly() -> None:
    nic, done = SimulatedNic(10**12), list[str]()
    flows = {
        "background": Flow(FetchClass.BACKGROUND, 0),
        "a": Flow(FetchClass.INTERACTIVE, 0),
        "b": Flow(FetchClass.INTERACTIVE, 0),
    }

    async def move(name: str) -> None:
        for order in range(2):
            await nic.move(lambda: flows[name], 1000, order)
            done.append(name)

    await asyncio.gather(*map(move, flows))

    assert done == ["a", "b", "a", "b", "background", "background"]


async def test_who_is_cancelled_while_it_waits_for_the_card_holds_up_nobody() -> None:
    nic, flow = SimulatedNic(10**12), Flow(FetchClass.INTERACTIVE, 0)
    first, cancelled, last = (
        asyncio.create_task(nic.move(lambda: flow, 1000, order)) for order in range(3)
    )
    await asyncio.sleep(0)
    cancelled.cancel()

    await asyncio.gather(first, last)
    assert cancelled.cancelled() or cancelled.cancelling()


async def test_manifests_agree_with_the_rows_of_the_registered_models() -> None:
    manifests, row = CatalogueManifests(Catalogue(50)), summary(7, {})

    manifest = (await manifests.load(manifest_digest(7))).manifest

    assert [(unit.digest, unit.size_bytes) for unit in manifest.units] == [
        (unit.digest, unit.size_bytes) for unit in row.units
    ]
    assert [(unit.kind, unit.layer_index) for unit in manifest.units] == [
        (unit.kind, unit.layer) for unit in row.units
    ]
    assert manifest.total_bytes == row.weight_bytes
    assert {manifests.number_of_unit(unit.digest) for unit in manifest.units} == {7}
    assert manifests.number_of_unit(manifest_of(8).units[0].digest) is None
