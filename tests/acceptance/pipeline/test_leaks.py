"""Cold starts and reclaims, again and again: the stack holds afterwards what it held before.

Two models take turns in host caches that hold one of them, so each start fetches, evicts, starts
four processes and ends them.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.local.nodes import NodeOptions
from deploy.local.options import StackOptions
from deploy.local.processes.worker_processes import descendants
from deploy.local.stack import LocalStack
from deploy.local.state.state_folder import StateFolder
from services.worker.frames.process_names import ZYGOTE
from tests.acceptance.client import Client
from tests.acceptance.observing import known_agent_pids, pools_filled
from tests.acceptance.pipeline.driving.leftovers import nothing_left
from tests.support.checkpoints import make_tiny_llama
from tests.support.figures import Figure
from tests.support.processtable import children

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(3600)]

NUM_NODES = 4
CACHE_BYTES = 6 * 2**20  # of a node: a quarter of one model, not of two
SERVERS = ("nats", "postgres", "s3")  # not ours
MEMORY_SLACK_BYTES = 8 * 2**20  # what an allocator keeps; 100 starts that leak 100 KB take more
DESCRIPTOR_SLACK = 3  # connections of pools that come and go


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tight_stack(
    tmp_path_factory: pytest.TempPathFactory, sources: Path
) -> AsyncIterator[LocalStack]:
    nodes = tuple(
        NodeOptions(
            f"node-{i}",
            nic_bytes_per_s=50_000_000,
            device_memory_bytes=2**30,
            cores=1,
            host_cache_bytes=CACHE_BYTES,
        )
        for i in range(NUM_NODES)
    )
    options = StackOptions(
        state=StateFolder(tmp_path_factory.mktemp("tight")),
        nodes=nodes,
        import_roots=(sources,),
        service_env={"OMP_NUM_THREADS": "1"},
    )
    async with LocalStack(options) as running:
        yield running


@dataclass(frozen=True)
class Held:
    """By one of our services or a zygote, and what runs below it."""

    pid: int
    num_children: int
    num_descriptors: int
    anonymous_bytes: int  # without what is mapped from shared memory

    @classmethod
    def by(cls, pid: int) -> "Held":
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        (anonymous,) = (line.split()[1] for line in status if line.startswith("RssAnon:"))
        return cls(
            pid,
            len(descendants([pid])),
            len(list(Path(f"/proc/{pid}/fd").iterdir())),
            int(anonymous) * 1024,
        )


def held(stack: LocalStack) -> Mapping[str, Held]:
    """By service, and by the zygote of each agent: what it leaks its forks inherit."""
    pids = {name: stack.pid(name) for name in stack.processes if name not in SERVERS}
    agents = {name: pid for name, pid in pids.items() if pid and name.startswith("agent-")}
    zygotes = {f"zygote of {name}": children(pid, ZYGOTE) for name, pid in agents.items()}
    assert {len(found) for found in zygotes.values()} == {1}, zygotes
    pids |= {name: pid for name, (pid,) in zygotes.items()}
    return {name: Held.by(pid) for name, pid in pids.items() if pid is not None}


async def start_and_reclaim(stack: LocalStack, client: Client, model: str) -> None:
    answer = await client.stream(model, "hello", max_tokens=4, temperature=0)
    assert answer.is_complete, answer
    await nothing_left(stack, client)


@pytest.mark.parametrize(
    ("num_before", "num_starts"),
    [(2, 4), pytest.param(10, 100, marks=pytest.mark.long)],
    ids=["a sample", "all"],
)
async def test_cold_starts_and_reclaims_leave_everything_as_it_was(
    tight_stack: LocalStack, sources: Path, num_before: int, num_starts: int, figure: Figure
) -> None:
    client = Client(tight_stack.gateway_url, tight_stack.api_key)
    known_agent_pids(tight_stack)
    models = [f"leak-{num_starts}-{number}" for number in range(2)]
    for seed, model in enumerate(models, 60):
        folder = make_tiny_llama(sources / model, seed=seed, num_layers=6, hidden_size=256)
        settings = {
            "keep_alive_s": 0,
            "min_pipeline_size": NUM_NODES,
            "max_pipeline_size": NUM_NODES,
        }
        await client.ready(model, str(folder), **settings)
    for number in range(num_before):
        await start_and_reclaim(tight_stack, client, models[number % 2])
    await pools_filled(tight_stack, client)
    before = held(tight_stack)

    for number in range(num_starts):
        await start_and_reclaim(tight_stack, client, models[number % 2])

    await pools_filled(tight_stack, client)
    after = held(tight_stack)
    starts = await client.get(f"/api/v1/cold-starts?model={models[0]}")
    assert all(start["bytes_from_cache"] < start["weight_bytes"] for start in starts), "all fetched"
    for name, now in after.items():
        then = before[name]
        grown_bytes = now.anonymous_bytes - then.anonymous_bytes
        figure(
            f"{name}: {then.num_descriptors} -> {now.num_descriptors} descriptors, "
            f"{then.anonymous_bytes / 1e6:.1f} MB {grown_bytes / 1e6:+.1f}"
        )
        assert (now.pid, now.num_children) == (then.pid, then.num_children), name
        assert now.num_descriptors <= then.num_descriptors + DESCRIPTOR_SLACK, name
        assert grown_bytes <= MEMORY_SLACK_BYTES, name
    for model in models:
        await client.delete(model)
    await client.close()
