"""Cold requests at a steady rate and in a burst, beside warm traffic: how long it takes from a
submission to the desired states of every node that it concerns, and to the first token."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator

from benchmarks.controlplane.plan import Plan
from benchmarks.controlplane.process_usage import cpu_s
from benchmarks.controlplane.samples import Samples
from benchmarks.controlplane.scene import Scene
from benchmarks.controlplane.tap import hearing_submissions
from benchmarks.controlplane.traffic import COLD, WARM, Answered, poisson, warm_traffic

_WORKERS = """
SELECT cold_starts.request_id, array_agg(workers.id) AS worker_ids
FROM cold_starts JOIN workers ON workers.endpoint_id = cold_starts.endpoint_id
WHERE cold_starts.request_id = ANY($1::text[])
GROUP BY cold_starts.id, cold_starts.request_id, cold_starts.started_at
ORDER BY cold_starts.started_at DESC
"""


async def measure(scene: Scene, plan: Plan, samples: Samples) -> None:
    """Every cold request is for a model that was never asked before."""
    warm = list(range(plan.num_warm))
    for number in warm:
        scene.asker.send(number, WARM)
    note(samples, "warm_up", await scene.asker.finish())
    cold = cold_models(plan, scene.num_nodes)
    warm_requests = warm_traffic(scene.asker, warm, plan.warm_per_s, f"warm/{plan.seed}")
    async with hearing_submissions(scene.stack.servers, scene.tap), warm_requests:
        for name, per_s, duration_s in (
            ("steady", plan.steady_per_s, plan.steady_s),
            ("burst", plan.burst_per_s, plan.burst_s),
        ):
            seed = f"{name}/{plan.seed}/{scene.num_nodes}"
            await _load(scene, samples, name, seed, per_s, duration_s, lambda: next(cold))
    note(samples, "burst", await scene.asker.finish())


def cold_models(plan: Plan, num_nodes: int) -> Iterator[int]:
    """Numbers of models in random order, none twice; the warm and the large ones are not there."""
    numbers = list(range(plan.num_warm, plan.num_models - plan.num_large))
    random.Random(f"cold/{plan.seed}/{num_nodes}").shuffle(numbers)
    return iter(numbers)


async def _load(
    scene: Scene,
    samples: Samples,
    name: str,
    seed: str,
    per_s: float,
    duration_s: float,
    next_model: Callable[[], int],
) -> None:
    pid = scene.stack.pid(await scene.leader())
    assert pid is not None, "the leader runs"
    before_s, began_s = cpu_s(pid), time.monotonic()
    known = set(scene.tap.submitted_s)
    await poisson(per_s, duration_s, seed, lambda: scene.asker.send(next_model(), COLD))
    took_s = time.monotonic() - began_s
    samples.figures[f"leader_cores_{name}"] = (cpu_s(pid) - before_s) / took_s
    note(samples, name, await scene.asker.finish_cold())
    submitted = {id_: at_s for id_, at_s in scene.tap.submitted_s.items() if id_ not in known}
    waits_ms, num_unsent = await _waits_ms(scene, submitted)
    samples.add(f"cold_submit_{name}_ms", waits_ms)
    samples.counts[f"unsent_{name}"] = num_unsent


def note(samples: Samples, name: str, answered: list[Answered]) -> None:
    for kind in (COLD, WARM):
        own = [item.outcome for item in answered if item.kind == kind]
        first = [o.first_token_s - o.sent_s for o in own if o.first_token_s is not None]
        samples.add(f"ttft_{kind}_{name}_s", first)
        known = Counter(samples.counts.get(f"{kind}_{name}", {}))
        samples.counts[f"{kind}_{name}"] = dict(known + Counter(o.status_words for o in own))


async def _waits_ms(scene: Scene, submitted: dict[str, float]) -> tuple[list[float], int]:
    """From each submission that made a cold start necessary, until the last process of its nodes
    was told; and of how many that was never seen."""
    rows = await scene.database.fetch(_WORKERS, list(submitted))
    first = {row["request_id"]: row["worker_ids"] for row in rows}  # the oldest start counts
    sent_s = {id_: scene.tap.sent_s(workers) for id_, workers in first.items()}
    waits = [1000 * (at_s - submitted[id_]) for id_, at_s in sent_s.items() if at_s is not None]
    return waits, len(sent_s) - len(waits)
