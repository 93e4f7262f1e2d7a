"""What a worker process and an agent load. Each in a fresh interpreter."""

import json
import subprocess
import sys

# What the runtime imports on its way, in its order.
WORKER = (
    "services.worker.runtime.worker_process",
    "services.worker.runtime.assembly",
)
NEVER_IN_A_WORKER = (
    "nats",
    "pydantic",
    "opentelemetry",
    "sqlalchemy",
    "asyncpg",
    "transformers",
    "tokenizers",
    "blake3",
    "minio",
    "uvloop",
    "libs.common.bus.bus",
    "libs.common.bus.messages",
)
SLOW_IN_AN_AGENT = ("torch", "numpy", "transformers", "sqlalchemy", "minio")


def modules_after(*imports: str) -> set[str]:
    code = f"import sys, json, {', '.join(imports)}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=120, check=True, text=True
    )
    return set(json.loads(done.stdout))


def test_a_worker_process_loads_nothing_that_waits_or_speaks_on_a_network() -> None:
    loaded = modules_after(*WORKER)
    assert "torch" in loaded
    assert sorted(loaded & set(NEVER_IN_A_WORKER)) == []


def test_a_worker_process_asks_for_its_weights_before_it_imports_torch() -> None:
    loaded = modules_after("services.worker.runtime.worker_process")
    assert "services.worker.runtime.unit_mapper" in loaded
    assert sorted(loaded & {"torch", "numpy", "asyncio", *NEVER_IN_A_WORKER}) == []


def test_an_agent_is_light() -> None:
    loaded = modules_after("services.worker.agent.bootstrap")
    assert sorted(loaded & set(SLOW_IN_AN_AGENT)) == []
