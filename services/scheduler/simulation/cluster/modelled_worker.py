"""A worker from the word to start it until its memory is free: when it has its weights, when its
process has launched, and when it can compute.

Launched at once, it copies to its device what has arrived while it still imports; launched once its
weights are there, it does one thing after the other.
"""

from collections.abc import Callable
from dataclasses import dataclass

from libs.common.bus.messages import ConsolidationObserved, WorkerObserved
from libs.common.states import WorkerState
from services.scheduler.policy.cluster import Worker
from services.scheduler.policy.consolidation.decisions import BeginConsolidation
from services.scheduler.simulation.event_queue import EventQueue
from services.scheduler.simulation.scenario.machines import StartFigures

_RESTING_MS = 10**12  # of a stage that follows its entry: nobody asks how long it has been idle
_KEY_LENGTH = 40  # of a public key, as messages want it


@dataclass(eq=False)
class ModelledWorker:
    events: EventQueue
    row: Worker  # as the scheduler planned it
    weight_bytes: int
    figures: StartFigures
    is_alone: bool  # the only stage of its endpoint
    on_change: Callable[["ModelledWorker"], None]  # its state is another one
    state: WorkerState = WorkerState.PLANNED
    is_connected: bool = False
    is_stopped: bool = False
    connected_at_s: float = 0.0
    generation: int = 1  # of its endpoint, that it has reached
    target: BeginConsolidation | None = None  # to have the whole model
    consolidation: ConsolidationObserved | None = None  # on the way to its target
    has_all_layers: bool = False  # that its target asks for
    _has_weights_at_s: float | None = None
    _launched_at_s: float | None = None
    _launch_s: float = 0.0
    _is_sequential: bool = False
    _is_loaded: bool = False

    def launch(self, *, has_standby: bool) -> None:
        figures = self.figures
        self._launched_at_s = self.events.now_s
        self._is_sequential = not self.row.is_launch_due
        usual_s = figures.sequential_launch_s if self._is_sequential else figures.launch_s
        self._launch_s = figures.standby_launch_s if has_standby else usual_s
        self._become(WorkerState.LAUNCHING)
        self.events.after(min(figures.register_s, self._launch_s), self._register)
        self._plan_load()

    def has_weights(self) -> None:
        """The last byte is in the host cache."""
        self._has_weights_at_s = self.events.now_s
        self._plan_load()

    def connect(self) -> None:
        self.is_connected, self.connected_at_s = True, self.events.now_s
        self._perhaps_ready()

    @property
    def computes_from_s(self) -> float:
        """When it could compute with what it had by then, and had its neighbours."""
        assert self._launched_at_s is not None
        return max(self._launched_at_s + self._launch_s, self.connected_at_s)

    def drain(self) -> None:
        if not self.is_stopped:
            self._become(WorkerState.DRAINING)

    def stop(self) -> None:
        self.is_stopped = True

    def observed(self, **facts: int) -> WorkerObserved:
        is_registered = self.state is not WorkerState.LAUNCHING
        return WorkerObserved.model_construct(
            worker_id=self.row.id,
            endpoint_id=self.row.endpoint_id,
            state=self.state,
            pid=None,
            cause=None,
            address=f"tcp://{self.row.node_id}:1" if is_registered else None,
            public_key=self.row.id.ljust(_KEY_LENGTH, "-")[:_KEY_LENGTH] if is_registered else None,
            num_running=facts.get("num_running", 0),
            num_waiting=facts.get("num_waiting", 0),
            kv_used_bytes=0,
            kv_capacity_bytes=0,
            step_us=0,
            idle_ms=facts.get("idle_ms", _RESTING_MS),
            progress=0,
            steps=(),
            generation=self.generation,
            consolidation=self.consolidation,
        )

    def _register(self) -> None:
        if self.state is WorkerState.LAUNCHING:
            self._become(WorkerState.REGISTERED)
            self._perhaps_ready()

    def _plan_load(self) -> None:
        if self._launched_at_s is not None and self._has_weights_at_s is not None:
            self.events.at(self._loaded_at_s(), self._has_loaded)

    def _loaded_at_s(self) -> float:
        """When it could compute; both moments are known."""
        figures, launched_at_s = self.figures, self._launched_at_s
        assert launched_at_s is not None and self._has_weights_at_s is not None
        is_up_at_s = launched_at_s + self._launch_s
        if self._is_sequential:
            load_s = self.weight_bytes / figures.sequential_load_bytes_per_s
            return is_up_at_s + load_s + figures.sequential_tail_s
        begun_at_s = launched_at_s + min(figures.load_after_s, self._launch_s)
        copied_at_s = begun_at_s + self.weight_bytes / figures.load_bytes_per_s
        return max(is_up_at_s, max(copied_at_s, self._has_weights_at_s) + self._tail_s)

    @property
    def _tail_s(self) -> float:
        """None of it for weights that were all there: a prompt goes through layer by layer."""
        assert self._launched_at_s is not None and self._has_weights_at_s is not None
        is_cached = self._has_weights_at_s <= self._launched_at_s
        is_free = is_cached and self.figures.prefills_while_loading
        return 0.0 if is_free else self.figures.tail_s

    def _has_loaded(self) -> None:
        self._is_loaded = True
        self._perhaps_ready()

    def _perhaps_ready(self) -> None:
        is_linked = self.is_alone or self.is_connected
        if self.state is WorkerState.REGISTERED and self._is_loaded and is_linked:
            self._become(WorkerState.READY)

    def _become(self, state: WorkerState) -> None:
        if not self.is_stopped:
            self.state = state
            self.on_change(self)
