"""What the leader has measured when a run begins, or what it takes for that."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean

from libs.common.decode_batches import DECODE_BATCHES
from services.scheduler.policy.prediction.figures import Figures
from services.scheduler.policy.prediction.measurements import MAX_VALUES
from services.scheduler.policy.prediction.quantities import STEPS, MeasurementKey, Quantity
from services.scheduler.simulation.cluster.compute import Speed
from services.scheduler.simulation.scenario.models import ModelGroup
from services.scheduler.simulation.scenario.scenario import Scenario

Values = dict[MeasurementKey, tuple[float, ...]]


@dataclass(frozen=True)
class ConstantFigures:
    """The constants of the scenario, as after many starts."""

    scenario: Scenario

    def of_nodes(self) -> Figures:
        """Of the cluster, too."""
        return Figures().adding(_often(dict(_of_nodes(self.scenario))))

    def of_model(self, model_id: str, group: ModelGroup) -> Values:
        """Of several kinds of devices the mean: figures of a model are of no node in particular."""
        return _often(dict(_of_model(_speeds(self.scenario, group), model_id)))


@dataclass(frozen=True)
class GivenFigures:
    """Values that were measured elsewhere, oldest first."""

    values: Values

    def of_nodes(self) -> Figures:
        """Of the cluster, too."""
        return Figures().adding({k: v for k, v in self.values.items() if not k.model_id})

    def of_model(self, model_id: str, _group: ModelGroup) -> Values:
        return {key: v for key, v in self.values.items() if key.model_id == model_id}


def _of_nodes(scenario: Scenario) -> Iterator[tuple[MeasurementKey, float]]:
    yield MeasurementKey(Quantity.HOP_S), scenario.hop_s
    yield MeasurementKey(Quantity.PROMPT_HOP_S), scenario.prompt_hop_s
    assumed_s = scenario.leader.assumed_launch_s
    for group in scenario.nodes:
        start = group.device.start
        for node_id in group.node_ids:
            standby_s = start.standby_launch_s if assumed_s is None else assumed_s
            yield MeasurementKey(Quantity.STANDBY_LAUNCH_S, node_id=node_id), standby_s
            yield MeasurementKey(Quantity.BUILD_S, node_id=node_id), 0.0  # `launch_s` has it
            tail_s = start.tail_s if assumed_s is None else 0.0
            yield MeasurementKey(Quantity.TAIL_S, node_id=node_id), tail_s


def _of_model(speeds: list[Speed], model_id: str) -> Iterator[tuple[MeasurementKey, float]]:
    prefill_s = mean(speed.prefill_s_per_token for speed in speeds)
    yield MeasurementKey(Quantity.PREFILL_S_PER_TOKEN, model_id=model_id), prefill_s
    for batch in DECODE_BATCHES:
        step_s = mean(speed.decode.step_s(batch) for speed in speeds)
        yield MeasurementKey(STEPS[batch], model_id=model_id), step_s


def _speeds(scenario: Scenario, group: ModelGroup) -> list[Speed]:
    kinds = {nodes.device.name for nodes in scenario.nodes}
    return [scenario.speeds.of(kind, group.architecture) for kind in sorted(kinds)]


def _often(values: dict[MeasurementKey, float]) -> Values:
    """So often that no prior is left."""
    return {key: (value,) * MAX_VALUES for key, value in values.items()}
