"""Sequences of desired states and requests, carried out on any node; each fills a transcript."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from libs.common.bus.messages import (
    FetchSpec,
    Generate,
    LayerRange,
    NodeDesired,
    Peer,
    WorkerObserved,
    WorkerSpec,
)
from libs.common.sampling import SamplingParameters
from libs.common.states import FetchClass, FetchPurpose, FetchState, MemberRole, WorkerState
from tests.integration.hollow.cluster import NODE, Cluster
from tests.integration.hollow.nodes import Node
from tests.integration.hollow.transcript import Transcript
from tests.integration.worker.tiny import MAX_CONTEXT, TinyModel

NUM_TOKENS = 100
LONG = 4000  # tokens of each of several requests: long enough to be seen at work


@dataclass
class Scene:
    node: Node
    cluster: Cluster
    model: TinyModel
    transcript: Transcript
    version: int = 0
    boot_id: str = ""
    stopped: tuple[str, ...] = ()
    fetches: tuple[FetchSpec, ...] = field(default=())

    async def begin(self) -> None:
        await self.cluster.until_beating()
        self.boot_id = self.cluster.agent_heartbeats[-1].boot_id
        self.transcript.name(self.boot_id, "its boot")

    def desired(self, *workers: WorkerSpec, **changes: object) -> NodeDesired:
        self.version += 1
        fields: dict[str, object] = {
            "node_id": NODE,
            "boot_id": self.boot_id,
            "leader_epoch": 5,
            "version": self.version,
            "workers": workers,
            "stopped_workers": self.stopped,
            "fetches": self.fetches,
            **changes,
        }
        return NodeDesired.model_validate(fields)

    async def desire(self, label: str, *workers: WorkerSpec, **changes: object) -> None:
        replies = await self.cluster.desire(self.desired(*workers, **changes))
        self.transcript.note_replies(label, replies)

    def fetch(self, fetch_id: str = "fetch-a", **changes: object) -> FetchSpec:
        fields: dict[str, object] = {
            "fetch_id": fetch_id,
            "purpose": FetchPurpose.START,
            "fetch_class": FetchClass.INTERACTIVE,
            "manifest_digest": self.model.manifest_digest,
            "unit_digests": tuple(unit.entry.digest for unit in self.model.units),
            **changes,
        }
        return FetchSpec.model_validate(fields)

    def worker(self, worker_id: str, **changes: object) -> WorkerSpec:
        fields: dict[str, object] = {
            "worker_id": worker_id,
            "endpoint_id": "endpoint-a",
            "endpoint_epoch": 1,
            "model_id": "model-a",
            "manifest_digest": self.model.manifest_digest,
            "generation": 1,
            "role": MemberRole.ENTRY,
            "stage_index": 0,
            "num_stages": 1,
            "layers": LayerRange(first_layer=0, last_layer=self.model.num_layers),
            "unit_digests": tuple(unit.entry.digest for unit in self.model.units),
            "device_index": 0,
            "device_bytes": 2**26,
            "kv_bytes": 2**23,
            "kv_tokens": MAX_CONTEXT,
            "max_slots": 4,
            "max_context_tokens": MAX_CONTEXT,
            "cores": 1,
            "start_timeout_ms": 60_000,
            **changes,
        }
        return WorkerSpec.model_validate(fields)

    def stages(self) -> list[WorkerSpec]:
        return [
            self.worker(
                f"stage-{index}",
                role=MemberRole.ENTRY if index == 0 else MemberRole.FOLLOWER,
                stage_index=index,
                num_stages=2,
                layers=LayerRange(first_layer=index, last_layer=index + 1),
            )
            for index in range(2)
        ]

    def request(self, request_id: str, **changes: object) -> Generate:
        sampling = SamplingParameters(max_tokens=NUM_TOKENS, seed=7, ignore_eos=True)
        fields: dict[str, object] = {
            "request_id": request_id,
            "attempt": 1,
            "endpoint_id": "endpoint-a",
            "epoch": 1,
            "prompt_ids": (3, 5, 7),
            "sampling": sampling,
            "remaining_ms": 60_000,
            **changes,
        }
        return Generate.model_validate(fields)

    async def answer(self, request: Generate) -> None:
        """From its `generate` to its acknowledgement."""
        id_ = request.request_id
        self.transcript.note(f"{id_}: taken", await self.cluster.generate(request))
        self.transcript.note_tokens(id_, await self.cluster.until_ended(id_))
        self.transcript.note(f"{id_}: acknowledged", await self.cluster.acknowledge(request))


def _peer(observed: WorkerObserved) -> Peer:
    assert observed.address is not None
    return Peer(
        worker_id=observed.worker_id, address=observed.address, public_key=observed.public_key
    )


async def _linked_stages(scene: Scene, early: Generate | None = None) -> list[WorkerSpec]:
    """Both ready; `early` is sent while they start."""
    cluster, specs = scene.cluster, scene.stages()
    scene.fetches = (scene.fetch(),)
    await scene.desire("launch", *specs)
    if early is not None:
        scene.transcript.note("early: taken", await cluster.generate(early))
    registered = (WorkerState.REGISTERED, WorkerState.READY)
    peers = [_peer(await cluster.until_worker(spec.worker_id, *registered)) for spec in specs]
    connected = [
        spec.model_copy(update={"previous": peers[index - 1], "next": peers[index - 1]})
        for index, spec in enumerate(specs)
    ]
    await scene.desire("connect", *connected)
    for spec in specs:
        await cluster.until_worker(spec.worker_id, WorkerState.READY)
    return connected


async def two_stages_serve_and_are_stopped(scene: Scene) -> None:
    cluster, specs = scene.cluster, await _linked_stages(scene, scene.request("early"))
    scene.transcript.note_tokens("early", await cluster.until_ended("early"))
    await scene.answer(scene.request("later"))
    await cluster.until_fetch("fetch-a", FetchState.COMPLETE)
    await cluster.until_beating()
    for spec in specs:
        scene.transcript.note_worker(spec.worker_id)
    scene.stopped, scene.fetches = tuple(spec.worker_id for spec in specs), ()
    await scene.desire("stop")
    for spec in specs:
        await cluster.until_gone(spec.worker_id)
    scene.transcript.note("ends", sorted(_ends(cluster)))
    scene.transcript.note_fetch("fetch-a")
    scene.transcript.note_heartbeats()


async def a_stage_that_is_killed_takes_the_other_one_along(scene: Scene) -> None:
    cluster, specs = scene.cluster, await _linked_stages(scene)
    victim = await cluster.until_worker("stage-1", WorkerState.READY)
    assert victim.pid is not None

    await scene.node.kill_worker("stage-1", victim.pid)

    for spec in specs:
        await cluster.until_worker(spec.worker_id, WorkerState.FAILED)
        scene.transcript.note_worker(spec.worker_id)


async def a_whole_model_is_cancelled_drained_and_stopped(scene: Scene) -> None:
    cluster, spec = scene.cluster, scene.worker("worker-a")
    scene.fetches = (scene.fetch(),)
    await scene.desire("launch", spec)
    await cluster.until_worker("worker-a", WorkerState.READY)
    sampling = SamplingParameters(max_tokens=LONG, seed=7, ignore_eos=True)
    busy = [scene.request(f"busy-{index}", sampling=sampling) for index in range(6)]
    for request in busy:
        scene.transcript.note(request.request_id, await cluster.generate(request))
    cancelled = scene.request("cancelled", sampling=sampling)
    scene.transcript.note("cancelled: taken", await cluster.generate(cancelled))
    scene.transcript.note_load("at work", await cluster.until_at_work("worker-a"))
    for request in busy:
        await cluster.cancel(request)
    scene.transcript.note("cancelled: known", await cluster.cancel(cancelled))
    scene.transcript.note_tokens("cancelled", await cluster.until_ended("cancelled"))
    stale = scene.request("stale", epoch=9)
    scene.transcript.note("of another epoch", await cluster.generate(stale))
    long_ = scene.request("long", prompt_ids=(1,) * (MAX_CONTEXT - 1))
    scene.transcript.note("too long", await cluster.generate(long_))
    running = scene.request("running")
    scene.transcript.note("running: taken", await cluster.generate(running))
    await scene.desire("drain", spec.model_copy(update={"is_draining": True}))
    scene.transcript.note("while it drains", await cluster.generate(scene.request("new")))
    scene.transcript.note_tokens("running", await cluster.until_ended("running"))
    scene.transcript.note("running: acknowledged", await cluster.acknowledge(running))
    await cluster.until_worker("worker-a", WorkerState.DRAINING)
    scene.stopped = ("worker-a",)
    await scene.desire("stop")
    await cluster.until_gone("worker-a")
    scene.transcript.note_worker("worker-a")
    await scene.desire("a stopped worker never starts again", spec, stopped_workers=())
    await cluster.until_beating()
    scene.transcript.note("it is there", cluster.worker("worker-a") is not None)


async def a_missing_worker_goes_on_and_is_stopped_later(scene: Scene) -> None:
    cluster, spec = scene.cluster, scene.worker("worker-a")
    scene.fetches = (scene.fetch(),)
    await scene.desire("launch", spec)
    await cluster.until_worker("worker-a", WorkerState.READY)
    await scene.desire("it is missing")
    await scene.desire("it is known again", spec)
    await scene.answer(scene.request("request-a"))
    await scene.desire("it is missing again")
    await cluster.until_gone("worker-a")
    scene.transcript.note_worker("worker-a")


async def what_a_node_refuses(scene: Scene) -> None:
    cluster = scene.cluster
    scene.fetches = (scene.fetch(),)
    await scene.desire("first")
    await scene.desire("of an older leader", leader_epoch=4)
    await scene.desire("an older version", version=0)
    await scene.desire("of another boot", boot_id="boot-other")
    await scene.desire("the same version again", version=scene.version)
    await scene.desire("of the next leader, counted anew", leader_epoch=6, version=1)
    await scene.desire(
        "a device that is not there", scene.worker("w", device_index=7), version=2, leader_epoch=6
    )
    await cluster.until_worker("w", WorkerState.FAILED)
    scene.transcript.note_worker("w")
    await cluster.until_fetch("fetch-a", FetchState.COMPLETE)
    missing = scene.fetch("fetch-b", manifest_digest="ab" * 32)
    foreign = scene.fetch("fetch-c", unit_digests=("cd" * 32,))
    scene.fetches = (*scene.fetches, missing, foreign)
    await scene.desire("fetches of what is not there", version=3, leader_epoch=6)
    for fetch_id in ("fetch-b", "fetch-c"):
        await cluster.until_fetch(fetch_id, FetchState.FAILED)
        scene.transcript.note_fetch(fetch_id)
    again = scene.fetch("fetch-d")
    scene.fetches = (again,)
    await scene.desire("what is cached", version=4, leader_epoch=6)
    await cluster.until_fetch("fetch-d", FetchState.COMPLETE)
    scene.transcript.note_fetch("fetch-d")


async def a_crash_and_restarts(scene: Scene) -> None:
    cluster, spec = scene.cluster, scene.worker("worker-a")
    scene.fetches = (scene.fetch(),)
    await scene.desire("launch", spec)
    ready = await cluster.until_worker("worker-a", WorkerState.READY)
    await cluster.generate(scene.request("lost"))
    await cluster.until(lambda: "lost" in cluster.tokens)
    assert ready.pid is not None
    await scene.node.kill_worker("worker-a", ready.pid)
    failed = await cluster.until_worker("worker-a", WorkerState.FAILED)
    scene.transcript.note("its cause", failed.cause)
    scene.transcript.note_worker("worker-a")
    await scene.desire("another one", spec, scene.worker("worker-b", endpoint_id="endpoint-b"))
    await cluster.until_worker("worker-b", WorkerState.READY)
    await scene.node.restart_agent()
    await cluster.until(lambda: cluster.agent_heartbeats[-1].boot_id != scene.boot_id)
    after = cluster.agent_heartbeats[-1]
    scene.transcript.name(after.boot_id, "its next boot")
    scene.transcript.note("after the agent's restart", (after.accepted_version, after.workers))
    await scene.desire("meant for the boot before", spec)
    await cluster.until_fetch("fetch-a", FetchState.COMPLETE)
    scene.transcript.note("its units", await cluster.cached_units())
    before = cluster.fetcher_heartbeats[-1]
    await scene.node.restart_fetcher()
    await cluster.until(lambda: cluster.fetcher_heartbeats[-1].boot_id != before.boot_id)
    later = cluster.fetcher_heartbeats[-1]
    scene.transcript.note(
        "after the fetcher's restart",
        (
            later.accepted_version,
            later.fetches,
            later.host_cache.set_digest == before.host_cache.set_digest,
        ),
    )
    scene.transcript.note("its units after that", await cluster.cached_units())


Scenario = Callable[[Scene], Awaitable[None]]
SCENARIOS: tuple[Scenario, ...] = (
    two_stages_serve_and_are_stopped,
    a_stage_that_is_killed_takes_the_other_one_along,
    a_whole_model_is_cancelled_drained_and_stopped,
    a_missing_worker_goes_on_and_is_stopped_later,
    what_a_node_refuses,
    a_crash_and_restarts,
)


def _ends(cluster: Cluster) -> set[tuple[str, str]]:
    told = (worker for beat in cluster.agent_heartbeats for worker in beat.workers)
    return {(w.worker_id, w.state.value) for w in told if w.state.is_finished}
