"""The thread that lets the previous stage in, connects to the next one, and notices their loss.

It owns both sockets until the neighbours have said hello; then the engine's thread does, and this
one keeps the monitors and the ZAP handler. It waits without the interpreter's lock.
"""

import os
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

import zmq

from services.worker.frames.dataplane import KeyPair, Neighbour, Security
from services.worker.runtime.dataplane.admission import Admission
from services.worker.runtime.dataplane.errors import DataPlaneError, NeighbourLost, WireError
from services.worker.runtime.dataplane.neighbour_state import InletState, OutletState
from services.worker.runtime.dataplane.sockets import decode_key, open_inlet, open_outlet
from services.worker.runtime.dataplane.wire import decode_hello, encode_hello

ZAP_ADDRESS = "inproc://zeromq.zap.01"  # RFC 27's name, one handler per context
_INLET_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED
_OUTLET_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_DISCONNECTED
)

_EVENT = struct.Struct("=Hi")  # of a monitor's first frame: event, value

Socket = zmq.Socket[bytes]


@dataclass(frozen=True)
class Neighbours:
    previous: Neighbour
    next: Neighbour


class NeighbourWatch:
    """`linked` and `failed` are called once at most, in the watch's own thread."""

    def __init__(
        self,
        context: zmq.Context[Socket],
        *,
        stage: int,
        security: Security,
        keys: KeyPair,
        linked: Callable[[], None],
        failed: Callable[[DataPlaneError], None],
    ) -> None:
        self._context, self._stage, self._security, self._keys = context, stage, security, keys
        self._linked, self._failed = linked, failed
        self._admission = Admission(security, keys, decode_key)
        self._zap = context.socket(zmq.ROUTER)
        self._zap.set(zmq.LINGER, 0)
        self._zap.bind(ZAP_ADDRESS)
        self.inlet = open_inlet(context, security, keys)
        self.outlet: Socket | None = None
        self._inlet_monitor = self.inlet.get_monitor_socket(_INLET_EVENTS)
        self._outlet_monitor: Socket | None = None
        self._inlet_state, self._outlet_state = InletState(), OutletState()
        self._is_handed_over = False
        self._neighbours: Neighbours | None = None  # as connected
        self._wanted: Neighbours | None = None  # as told by another thread
        self._is_closing = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="link-watch", daemon=True)

    def start(self) -> None:
        """After the inlet is bound."""
        self._thread.start()

    def connect(self, neighbours: Neighbours) -> None:
        """Any thread; once."""
        self._wanted = neighbours
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Any thread but the watch's own. The sockets end with their context."""
        self._is_closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        for socket in (self._zap, self._inlet_monitor, self._outlet_monitor):
            if socket is not None:
                socket.close(0)
        os.close(self._wake)

    # ---------------------------------------------------------- in its thread

    def _run(self) -> None:
        try:
            while not self._is_closing:
                self._turn()
        except DataPlaneError as exc:
            self._failed(exc)
        except Exception as exc:  # a bug here must not leave links that nobody watches
            self._failed(DataPlaneError(f"the watch over the links failed: {exc!r}"))

    def _turn(self) -> None:
        ready = self._wait()
        if self._wake in ready:
            os.eventfd_read(self._wake)
        if self._wanted is not None and self._neighbours is None:
            self._connect(self._wanted)
        if self._zap in ready:
            self._answer(self._admission.take(self._zap.recv_multipart()))
        self._take_events()
        if self.inlet in ready and not self._inlet_state.is_linked:
            self._take_hello()
        self._conclude()

    def _wait(self) -> dict[Socket | int, int]:
        poller = zmq.Poller()
        poller.register(self._wake, zmq.POLLIN)
        for socket in (self._zap, self._inlet_monitor, self._outlet_monitor):
            if socket is not None:
                poller.register(socket, zmq.POLLIN)
        if not self._inlet_state.is_linked:
            poller.register(self.inlet, zmq.POLLIN)
        return dict(poller.poll())

    def _connect(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours
        self.outlet = open_outlet(self._context, self._security, self._keys, neighbours.next)
        self._outlet_monitor = self.outlet.get_monitor_socket(_OUTLET_EVENTS)
        self.outlet.connect(neighbours.next.address)
        self._answer(self._admission.open_to(neighbours.previous))

    def _answer(self, answers: list[list[bytes]]) -> None:
        for frames in answers:
            self._zap.send_multipart(frames)

    def _take_events(self) -> None:
        for event, value in _events(self._inlet_monitor):
            if event == zmq.EVENT_ACCEPTED:
                self._inlet_state.accepted(value)
            else:
                self._inlet_state.disconnected(value)
        if self._outlet_monitor is not None:
            for event, _ in _events(self._outlet_monitor):
                self._take_outlet_event(event)

    def _take_outlet_event(self, event: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._outlet_state.refused()
        elif event == zmq.EVENT_DISCONNECTED:
            self._outlet_state.disconnected()
        elif not self._outlet_state.is_linked:
            self._outlet_state.connected()
            assert self.outlet is not None
            self.outlet.send(encode_hello(self._stage))

    def _take_hello(self) -> None:
        frame = self.inlet.recv(copy=False)
        stage = decode_hello(frame.buffer)
        assert self._neighbours is not None, "nobody is admitted before"
        if stage != self._neighbours.previous.stage:
            raise WireError(f"stage {stage} says hello in place of the previous stage")
        self._inlet_state.hello(int(frame.get(zmq.SRCFD)))

    def _conclude(self) -> None:
        if self._neighbours is None:
            return
        previous, following = self._neighbours.previous.stage, self._neighbours.next.stage
        if self._inlet_state.is_lost:
            raise NeighbourLost(self._stage, previous, "its connection ended")
        if self._outlet_state.is_lost:
            raise NeighbourLost(self._stage, following, "the connection to it ended")
        if self._outlet_state.is_refused:
            raise NeighbourLost(self._stage, following, "it refused the connection")
        is_linked = self._inlet_state.is_linked and self._outlet_state.is_linked
        if is_linked and not self._is_handed_over:
            self._is_handed_over = True
            self._linked()


def _events(monitor: Socket) -> list[tuple[int, int]]:
    """Everything that waits, as event and value."""
    events: list[tuple[int, int]] = []
    while True:
        try:
            first, _endpoint = monitor.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return events
        events.append(_EVENT.unpack(first))
