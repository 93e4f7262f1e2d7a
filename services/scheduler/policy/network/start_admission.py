"""Whether a start's fetches may go where its plan wants them, and until when they have time. Pure.

A start that would make another one miss its target goes elsewhere, or waits until it would not. One
that cannot meet its own target any more has no deadline: it keeps nobody away.
"""

from libs.common.states import FetchClass
from services.scheduler.policy.network.admission import admits
from services.scheduler.policy.network.flow import Flow
from services.scheduler.policy.network.network import Network
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.prediction.objective import Objective
from services.scheduler.policy.prediction.predictor import Prediction


def fetch_deadline_s(
    plan: Plan, prediction: Prediction, objective: Objective, now_s: float
) -> float | None:
    """When its last fetch must be done, in monotonic seconds, so that the first token is in time:
    what follows the fetches takes as long as predicted."""
    if prediction.ttft_s > objective.ttft_s:
        return None
    after_s = prediction.prefill_s + prediction.hops_s + max(s.tail_s for s in plan.stages)
    return now_s + objective.ttft_s - prediction.waited_s - after_s


def flows_of(plan: Plan, endpoint_id: str, deadline_s: float | None) -> list[Flow]:
    """What it would fetch."""
    return [
        Flow(
            f"{endpoint_id}/{index}",
            stage.node_id,
            FetchClass.INTERACTIVE,
            stage.weight_bytes - stage.cached_bytes,
            deadline_s,
        )
        for index, stage in enumerate(plan.stages)
        if stage.weight_bytes > stage.cached_bytes
    ]


def refusing_nodes(network: Network, plan: Plan, now_s: float) -> frozenset[str]:
    """Those of the plan's nodes where somebody would be late because of it. Where the object
    store's egress is what makes them late, all from which anything would be fetched."""
    flows = [f for f in flows_of(plan, "newcomer", None) if network.get(f.node_id) is not None]
    if not flows or admits(network, flows, now_s).is_admitted:
        return frozenset()
    node_ids = {flow.node_id for flow in flows}
    own = {id_: [flow for flow in flows if flow.node_id == id_] for id_ in node_ids}
    refusing = {id_ for id_, some in own.items() if not admits(network, some, now_s).is_admitted}
    return frozenset(refusing or node_ids)
