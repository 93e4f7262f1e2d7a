"""The control plane's benchmark: its catalogue, its listening on the bus, and its figures."""

import asyncio

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from benchmarks.controlplane import catalogue as c
from benchmarks.controlplane import figures as f
from benchmarks.controlplane.catalogue import Catalogue
from benchmarks.controlplane.measures.cold import cold_models
from benchmarks.controlplane.plan import Plan
from benchmarks.controlplane.samples import Samples, percentile
from benchmarks.controlplane.tap import Tap

CATALOGUE = Catalogue(num_models=1_000, num_large=10)


def test_a_manifest_leads_back_to_its_model() -> None:
    assert CATALOGUE.number_of(c.manifest_digest(123)) == 123
    assert CATALOGUE.number_of(c.manifest_digest(1_000)) is None


def test_every_unit_of_every_model_has_a_digest_of_its_own() -> None:
    digests = [digest for number in range(100) for digest in c.unit_digests(number)]
    assert len(set(digests)) == 100 * c.UNITS_PER_MODEL


def test_a_summary_weighs_what_its_units_weigh() -> None:
    summary = c.summary(7, {})
    assert summary.weight_bytes == sum(unit.size_bytes for unit in summary.units)
    assert tuple(unit.digest for unit in summary.units) == c.unit_digests(7)


def test_a_node_holds_the_same_models_whoever_asks() -> None:
    cached = CATALOGUE.cached_models("hollow-3", num_units=180)
    assert cached == Catalogue(1_000, 10).cached_models("hollow-3", num_units=180)
    assert len(cached) == 10
    assert cached != CATALOGUE.cached_models("hollow-4", num_units=180)


def test_cold_requests_are_for_models_that_nobody_has_asked() -> None:
    plan = Plan(num_models=100, num_large=10, num_warm=5)
    assert sorted(cold_models(plan, num_nodes=3)) == list(range(5, 90))


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 2.0), (0.75, 3.0), (0.99, 4.0), (1.0, 4.0)]
)
def test_a_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == expected


def test_what_was_not_measured_has_no_figure() -> None:
    assert f.TAKEOVER.of(Samples(100)) is None
    assert f.TAKEOVER.interval(Samples(100)) is None


def test_the_worst_takeover_counts() -> None:
    samples = Samples(100)
    samples.add("takeover_s", [1.0, 4.0, 2.0])
    assert f.TAKEOVER.of(samples) == 4.0


def desired(node: str, *, epoch: int, workers: list[str]) -> Msg:
    named = ",".join(f'{{"worker_id":"{worker}"}}' for worker in workers)
    data = f'{{"leader_epoch":{epoch},"workers":[{named}]}}'.encode()
    return Msg(Client(), subject=f"hydra.v1.node.{node}.desired.x", data=data)


def test_workers_count_as_sent_once_both_processes_of_every_node_were_told() -> None:
    async def main() -> None:
        tap = Tap()
        await tap.on_fetcher_told(desired("a", epoch=1, workers=["w1"]))
        await tap.on_agent_told(desired("a", epoch=1, workers=["w1"]))
        await tap.on_fetcher_told(desired("b", epoch=1, workers=["w2"]))
        assert tap.sent_s(["w1", "w2"]) is None
        await tap.on_agent_told(desired("b", epoch=1, workers=["w2"]))
        sent_s = tap.sent_s(["w1", "w2"])
        assert sent_s == tap.agents_told_s["w2"]
        await tap.on_agent_told(desired("b", epoch=2, workers=["w2"]))
        assert tap.sent_s(["w1", "w2"]) == sent_s  # the first time counts

    asyncio.run(main())


def test_processes_that_were_told_of_an_epoch_count_once() -> None:
    async def main() -> None:
        tap = Tap()
        for _ in range(2):
            await tap.on_agent_told(desired("a", epoch=5, workers=[]))
        await tap.on_agent_told(desired("b", epoch=4, workers=[]))
        assert (tap.num_told(5), tap.num_told(4)) == (1, 1)

    asyncio.run(main())
