"""A gateway with the whole catalogue: how long it takes to start, what memory it takes, and when it
knows a model that was registered on another one."""

import asyncio
import signal
import time

from benchmarks.controlplane.plan import Plan
from benchmarks.controlplane.process_usage import descendants, rss_bytes
from benchmarks.controlplane.samples import Samples
from benchmarks.controlplane.scene import TEMPLATE, Scene
from tests.acceptance.client import Client

_RESTARTED = "gateway-1"
_POLL_S = 0.005
_LIMIT_S = 30.0
_NUM_STARTS = 3
_MB = 1e6


async def measure(scene: Scene, plan: Plan, samples: Samples) -> None:
    for name in ("gateway-0", _RESTARTED):
        samples.add("gateway_mb", [_own_mb(scene, name)])
        samples.add("gateway_children_mb", [_children_mb(scene, name)])
    await _registrations(scene, plan, samples)
    for _ in range(_NUM_STARTS):
        samples.add("gateway_start_s", [await _start_s(scene)])
        samples.add("gateway_mb", [_own_mb(scene, _RESTARTED)])


async def _start_s(scene: Scene) -> float:
    """From a start of the process until it answers for a model of the catalogue."""
    scene.stack.hold(_RESTARTED)
    scene.stack.kill(_RESTARTED, signal.SIGKILL)
    await asyncio.sleep(1.0)
    began_s = time.monotonic()
    await scene.stack.start(_RESTARTED)
    client = Client(scene.stack.gateway_urls[1], scene.stack.api_key)
    try:
        await _until_known(client, TEMPLATE, began_s)
    finally:
        await client.close()
    return time.monotonic() - began_s


async def _registrations(scene: Scene, plan: Plan, samples: Samples) -> None:
    """The other gateway was asked for the name a moment before, and knows that it is not there."""
    other = Client(scene.stack.gateway_urls[1], scene.stack.api_key)
    try:
        for index in range(plan.num_registrations):
            name = f"registered-{scene.num_nodes}-{index}"
            assert (await other.http.get(f"/api/v1/models/{name}")).status_code == 404
            await scene.operator.register(name, "/nowhere")
            began_s = time.monotonic()
            await _until_known(other, name, began_s)
            samples.add("registration_known_s", [time.monotonic() - began_s])
            await scene.operator.delete(name)
    finally:
        await other.close()


async def _until_known(client: Client, name: str, began_s: float) -> None:
    while (await client.http.get(f"/api/v1/models/{name}")).status_code != 200:
        assert time.monotonic() - began_s < _LIMIT_S, f"{name} is not known after {_LIMIT_S} s"
        await asyncio.sleep(_POLL_S)


def _own_mb(scene: Scene, name: str) -> float:
    pid = scene.stack.pid(name)
    assert pid is not None, "it runs"
    return rss_bytes(pid) / _MB


def _children_mb(scene: Scene, name: str) -> float:
    """Of its tokenizer and template processes, together."""
    pid = scene.stack.pid(name)
    assert pid is not None, "it runs"
    return sum(map(rss_bytes, descendants(pid))) / _MB
