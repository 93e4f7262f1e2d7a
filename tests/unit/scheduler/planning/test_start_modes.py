"""The policies that are there to compare with: one worker, each in its own way."""

from dataclasses import replace

import pytest

from libs.common.startmode import StartMode
from services.scheduler.policy import decisions as d
from services.scheduler.policy.changes import SWEEP
from services.scheduler.policy.decide import decide_round
from services.scheduler.policy.planning.planner import plan
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.prediction.objective import Objective
from tests.unit.scheduler.snapshots import SmallCluster, a_model, a_request
from tests.unit.scheduler.values import cluster, deployable, device, node, summary, unit_digest

OTHERS = [mode for mode in StartMode if mode is not StartMode.HYDRA]


@pytest.mark.parametrize("mode", OTHERS)
def test_all_others_start_one_worker_however_tight_the_target_is(mode: StartMode) -> None:
    made = SmallCluster()
    for index in range(4):
        made.add_node(f"node-{index}", memory_bytes=5000)
    made.add_model(a_model("model-1", max_pipeline_size=4, slo_ttft_s=0.001), summary())
    made.add_request(a_request("request-1", "model-1"))

    decided = decide_round(made.snapshot(mode=mode), SWEEP, NodeMemo())

    (begun,) = [x for x in decided.decisions if isinstance(x, d.StartEndpoint)]
    assert len(begun.plan.stages) == 1
    (endpoint,) = decided.snapshot.endpoints.rows.values()
    # Nothing is in any host cache, so who loads from there has to wait for the fetch.
    assert [w.is_launch_due for w in endpoint.workers] == [mode is StartMode.SINGLE]


def test_who_loads_from_host_caches_launches_at_once_where_everything_is() -> None:
    assert StartMode.CACHED.is_launched_at_once(is_cached=True)
    assert not StartMode.CACHED.is_launched_at_once(is_cached=False)
    assert not StartMode.SEQUENTIAL.is_launched_at_once(is_cached=True)


@pytest.mark.parametrize(("prefers", "chosen"), [(False, "fast"), (True, "holds-some")])
def test_the_best_copy_is_preferred_to_the_soonest_start(prefers: bool, chosen: str) -> None:
    nodes = cluster(
        node(device("fast", memory=9999), nic=10**6),
        node(device("holds-some", memory=9999), nic=10),
    )
    held = {"holds-some": [unit_digest(0), unit_digest(1)]}
    wanted = replace(deployable(cached=held), objective=Objective(prefers_cached_copies=prefers))

    found = plan(nodes, wanted)

    assert isinstance(found, Plan)
    assert [stage.node_id for stage in found.stages] == [chosen]
