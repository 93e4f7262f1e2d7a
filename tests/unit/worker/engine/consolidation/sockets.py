"""Pipelines whose stages are threads, and what they say to each other goes over real sockets."""

import random
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from services.worker.engine.engine import StageEngine
from services.worker.engine.execution.follower import Follower
from services.worker.engine.execution.microbatch import KvExport, MicroBatch
from services.worker.engine.model.place import Place
from services.worker.frames.dataplane import Security
from services.worker.runtime.dataplane.kv_inlet import KvInlet
from services.worker.runtime.dataplane.kv_outlet import KvOutlet
from services.worker.runtime.dataplane.kv_wire import KvShape
from services.worker.runtime.dataplane.plane import DataPlane
from services.worker.runtime.dataplane.ring import SocketRing
from tests.unit.worker.dataplane.ring import HOST, PATIENCE_S, linked_ring
from tests.unit.worker.engine.consolidation.consolidating import Subjects
from tests.unit.worker.engine.tiny import CPU, Subject

WAIT_S = 0.05  # of a stage that nothing comes to


class NotingRing(SocketRing):
    """Keeps what micro-batches ask for."""

    exports: list[KvExport]

    def send(self, batch: MicroBatch, hidden: torch.Tensor) -> None:
        self.exports += batch.exports
        super().send(batch, hidden)


class FollowerThread(threading.Thread):
    """As a worker process runs it."""

    def __init__(self, follower: Follower) -> None:
        super().__init__(name="follower", daemon=True)
        self._follower = follower
        self._error: Exception | None = None
        self._is_stopped = False

    def run(self) -> None:
        follower = self._follower
        try:
            while not (follower.has_left or self._is_stopped):
                follower.step(0 if follower.optimize_step() else WAIT_S)
        except Exception as exc:  # raised in the thread that joins this one
            self._error = exc

    def stop(self) -> None:
        """Whatever the ring is."""
        self._is_stopped = True
        self.join(PATIENCE_S)
        assert not self.is_alive()

    def left(self) -> None:
        """Once it has heard that the ring is closed."""
        self.join(PATIENCE_S)
        if self._error is not None:
            raise self._error
        assert not self.is_alive() and self._follower.has_left


@dataclass
class SocketSubjects(Subjects):
    ring: NotingRing
    threads: list[FollowerThread] = field(default_factory=list)

    @property
    def exports(self) -> list[KvExport]:
        return self.ring.exports

    def close_ring(self) -> None:
        for thread in self.threads:
            thread.left()


def socket_ring(plane: DataPlane, model: Subject) -> NotingRing:
    hidden_size = model.config.hidden_size
    ring = NotingRing(plane, hidden_size, model.dtype, CPU, link_timeout_s=PATIENCE_S)
    ring.exports = []
    return ring


@contextmanager
def socket_subjects(
    model: Subject,
    layers: list[range],
    chance: random.Random,
    security: Security,
    **options: object,
) -> Iterator[SocketSubjects]:
    """All of whose weights are there."""
    config, num_stages = model.config, len(layers)
    shape = KvShape(config.num_layers, config.num_kv_heads, config.head_dim, model.dtype)
    inlet = KvInlet(HOST, security, shape)
    outlets = [KvOutlet(security, stage=stage) for stage in range(1, num_stages)]
    with linked_ring(num_stages, security) as planes:
        rings = [socket_ring(plane, model) for plane in planes]
        places = [Place(index, num_stages, layers[index]) for index in range(num_stages)]
        settings = model.engine_options(**options)
        engine = StageEngine(config, model.weights, settings, places[0], rings[0])
        followers = [
            Follower(config, model.weights, settings, place, ring, outlet)
            for place, ring, outlet in zip(places[1:], rings[1:], outlets, strict=True)
        ]
        for units in (engine.load_units(), *(follower.load_units() for follower in followers)):
            deque(units, maxlen=0)
        threads = [FollowerThread(follower) for follower in followers]
        for thread in threads:
            thread.start()
        try:
            yield SocketSubjects(model, engine, followers, inlet, chance, rings[0], threads)
        finally:
            for thread in threads:
                thread.stop()
            inlet.close()
            for follower, outlet in zip(followers, outlets, strict=True):
                if not follower.has_left:
                    outlet.close()
