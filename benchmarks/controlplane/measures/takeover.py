"""A leader dies: until the next one has told every node, and started what was asked meanwhile."""

import asyncio
import signal
import time
from collections.abc import Iterator

from benchmarks.controlplane.client import Outcome, ask
from benchmarks.controlplane.plan import Plan
from benchmarks.controlplane.samples import Samples
from benchmarks.controlplane.scene import Scene
from benchmarks.controlplane.traffic import COLD, NUM_TOKENS

_POLL_S = 0.01
_LIMIT_S = 60.0
_WORKERS = """
SELECT workers.id FROM workers JOIN endpoints ON endpoints.id = workers.endpoint_id
WHERE endpoints.model_id = $1 AND endpoints.ended_at IS NULL
"""


async def measure(scene: Scene, plan: Plan, samples: Samples, cold: Iterator[int]) -> None:
    for _ in range(plan.num_takeovers):
        await _takeover(scene, samples, next(cold))


async def _takeover(scene: Scene, samples: Samples, number: int) -> None:
    leader, epoch = await scene.leader(), await scene.epoch()
    key = scene.asker.keys[scene.catalogue.tenant(number)]
    began_s = time.monotonic()
    scene.stack.kill(leader, signal.SIGKILL)
    name, port = scene.catalogue.name(number), scene.asker.ports[0]
    asking = asyncio.create_task(ask(port, key, name, NUM_TOKENS[COLD]))
    while (new_epoch := await scene.epoch()) == epoch:
        await _pause(began_s)
    samples.add("takeover_leader_s", [time.monotonic() - began_s])
    while scene.tap.num_told(new_epoch) < 2 * scene.num_nodes:
        await _pause(began_s)
    told_s = max(at_s for (_, told), at_s in scene.tap.epochs_told_s.items() if told == new_epoch)
    sent_s = await _sent_s(scene, scene.catalogue.model_id(number), asking, began_s)
    samples.add("takeover_nodes_told_s", [told_s - began_s])
    samples.add("takeover_cold_sent_s", [sent_s - began_s])
    samples.add("takeover_s", [max(told_s, sent_s) - began_s])
    outcome = await asking
    statuses = samples.counts.setdefault("cold_takeover", {})
    statuses[outcome.status_words] = statuses.get(outcome.status_words, 0) + 1
    await scene.stack.wait_ready(leader)


async def _sent_s(
    scene: Scene, model_id: str, asking: "asyncio.Task[Outcome]", began_s: float
) -> float:
    while True:
        if asking.done():
            assert asking.result().is_whole, f"refused: {asking.result()}"
        ids = [row["id"] for row in await scene.database.fetch(_WORKERS, model_id)]
        sent_s = scene.tap.sent_s(ids)
        if sent_s is not None:
            return sent_s
        await _pause(began_s)


async def _pause(began_s: float) -> None:
    assert time.monotonic() - began_s < _LIMIT_S, "nobody has taken over"
    await asyncio.sleep(_POLL_S)
