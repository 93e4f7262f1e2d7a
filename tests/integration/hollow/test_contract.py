"""A hollow node answers the same desired states as a real one does: agent, fetcher and workers of
a tiny model as processes."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from libs.common.settings import ObjectStoreSettings
from tests.integration.hollow.cluster import Cluster
from tests.integration.hollow.nodes import hollow_node, real_node, store_model
from tests.integration.hollow.scenarios import SCENARIOS, Scenario, Scene
from tests.integration.hollow.transcript import Transcript
from tests.integration.servers import RunningNats
from tests.integration.worker.tiny import TinyModel


@dataclass(frozen=True)
class Difference:
    """Of a fact that is a list: what only the real node has in it."""

    scenario: str
    label: str
    only_real: tuple[object, ...]
    why: str


# None: what hollow nodes leave out (their README) shows in no value that is compared here.
DIFFERENCES: tuple[Difference, ...] = ()


@pytest.fixture(scope="module")
def model() -> TinyModel:
    return TinyModel()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_a_hollow_node_behaves_as_a_real_one(
    scenario: Scenario,
    model: TinyModel,
    nats_server: RunningNats,
    object_store: ObjectStoreSettings,
    tmp_path: Path,
) -> None:
    await store_model(model, object_store)
    facts = []
    for node_of in (real_node, hollow_node):
        cluster = await Cluster.open(nats_server)
        folder = tmp_path / node_of.__name__
        folder.mkdir()
        transcript = Transcript(cluster)
        async with node_of(folder, nats_server, object_store) as node:
            scene = Scene(node, cluster, model, transcript)
            await scene.begin()
            await scenario(scene)
        await cluster.close()
        facts.append(transcript.facts)
    real, hollow = facts

    known = [difference for difference in DIFFERENCES if difference.scenario == scenario.__name__]
    for difference in known:
        told = real[difference.label]
        assert isinstance(told, list) and set(difference.only_real) <= set(told)
        real[difference.label] = [item for item in told if item not in difference.only_real]
    found = [
        f"{label}: {real.get(label)} against {hollow.get(label)}"
        for label in dict.fromkeys((*real, *hollow))
        if real.get(label) != hollow.get(label)
    ]
    assert not found, "\n".join(found)
