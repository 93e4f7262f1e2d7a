"""How long bursts of requests to cold models wait: `python -m benchmarks.burst [repeats]`.

The embedded stack with four nodes of 50 MB/s; random models of 14 MB, fetched anew in each burst
and served in four stages. Each burst is sent at one moment, by one client. Every answer is
compared with transformers' own. Writes `benchmarks/out/burst.json`.
"""

import asyncio
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report import write_report
from deploy.local.nodes import equal_nodes
from deploy.local.options import StackOptions
from deploy.local.stack import LocalStack
from deploy.local.state.state_folder import StateFolder
from tests.acceptance.client import Client
from tests.acceptance.pipeline.driving.bursts import (
    BurstModel,
    Figures,
    check_answers,
    check_one_start,
    send,
    spread,
)
from tests.acceptance.pipeline.driving.leftovers import nothing_left
from tests.acceptance.pipeline.driving.questions import QuestionResult

NUM_NODES, NUM_SCHEDULERS = 4, 2
NODE = {"nic": "50M", "memory": "2Gi", "host_cache": "512Mi", "cores": 1}
HIDDEN_SIZE = 256
LARGE_KV_BYTES = 9 * 2**28  # of each of eight models: three of them fill the nodes
PACKAGES = ("torch", "transformers", "nats-py", "sqlalchemy", "pyzmq", "uvloop")


@dataclass(frozen=True)
class Load:
    num_models: int
    num_requests: int
    kv_cache_bytes: int | None = None

    def __str__(self) -> str:
        return f"{self.num_requests} requests to {self.num_models} cold model(s)"


LOADS = (
    *(Load(1, count) for count in (1, 5, 25, 100)),
    *(Load(8, count, LARGE_KV_BYTES) for count in (8, 100)),
)


@dataclass
class Bursts:
    """Runs loads against one stack; each with weights that no node has."""

    stack: LocalStack
    client: Client
    sources: Path
    _num_models: int = 0

    async def run(self, load: Load) -> list[QuestionResult]:
        models = [self._model() for _ in range(load.num_models)]
        names = [model.folder.name for model in models]
        settings = {
            "keep_alive_s": 1,
            "min_pipeline_size": NUM_NODES,
            "max_pipeline_size": NUM_NODES,
            "kv_cache_bytes": load.kv_cache_bytes,
        }
        for name, model in zip(names, models, strict=True):
            await self.client.ready(name, str(model.folder), **settings)
        asked = await send(self.client, spread(names, models, load.num_requests))
        check_answers(asked)
        for name in names:
            await check_one_start(self.client, name)
            await self.client.delete(name)
        await nothing_left(self.stack, self.client)
        return asked

    def _model(self) -> BurstModel:
        self._num_models += 1
        folder = self.sources / f"burst-{self._num_models}"
        return BurstModel.make(folder, seed=self._num_models, hidden_size=HIDDEN_SIZE)


async def measure(repeats: int) -> dict[Load, list[list[QuestionResult]]]:
    with TemporaryDirectory() as folder:
        sources = Path(folder) / "sources"
        sources.mkdir()
        options = StackOptions(
            state=StateFolder(Path(folder) / "state"),
            nodes=equal_nodes(NUM_NODES, NODE),
            num_schedulers=NUM_SCHEDULERS,
            import_roots=(sources,),
            service_env={"OMP_NUM_THREADS": "1"},
        )
        async with LocalStack(options) as stack:
            client = Client(stack.gateway_url, stack.api_key)
            try:
                bursts = Bursts(stack, client, sources)
                return {load: [await bursts.run(load) for _ in range(repeats)] for load in LOADS}
            finally:
                await client.close()


def report(measured: dict[Load, list[list[QuestionResult]]]) -> None:
    summary, samples = {}, {}
    for load, runs in measured.items():
        figures = Figures.of([asked for run in runs for asked in run])
        print(f"{load!s:32} {figures}")
        summary[str(load)] = asdict(figures)
        samples[str(load)] = [[_sample(asked) for asked in run] for run in runs]
    seeds = "the n-th model's weights: n"
    write_report("burst", summary=summary, samples=samples, seeds=seeds, packages=PACKAGES)


def _sample(asked: QuestionResult) -> dict[str, object]:
    return {
        "model": asked.question.model,
        "status": asked.status,
        "first_text_s": asked.first_text_s,
        "ended_s": asked.ended_s,
    }


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    report(asyncio.run(measure(repeats)))


if __name__ == "__main__":
    main()
