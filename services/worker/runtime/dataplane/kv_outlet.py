"""A follower's end of the way that keys and values take to the entry: a thread that sends them."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import zmq

from services.worker.engine.consolidation.kv_ports import KvBlock
from services.worker.engine.execution.notices import KvInletOpened, SenderKey
from services.worker.frames.dataplane import KeyPair, Neighbour, Security
from services.worker.runtime.dataplane.sockets import make_keys, open_outlet

ENTRY_STAGE = 0


@dataclass(frozen=True)
class _Connection:
    """To one inlet; what was queued for another one is dropped."""

    number: int
    inlet: KvInletOpened
    keys: KeyPair


@dataclass(frozen=True)
class _Queued:
    connection: int
    block: KvBlock


class KvOutlet:
    """For the thread that owns the stage."""

    def __init__(
        self,
        security: Security,
        *,
        stage: int,
        before_send: Callable[[int], None] = lambda num_bytes: None,
    ) -> None:
        """`before_send` may hold so many bytes back, in the outlet's own thread."""
        self._security, self._stage, self._before_send = security, stage, before_send
        self._queue: queue.SimpleQueue[_Connection | _Queued | None] = queue.SimpleQueue()
        self._current = 0  # connection
        self._thread: threading.Thread | None = None
        self._encode: Callable[[KvBlock], list[bytes | memoryview]]

    def open(self, notice: KvInletOpened) -> KvInletOpened:
        """See KvSender."""
        self._current += 1
        keys = make_keys()
        self._queue.put(_Connection(self._current, notice, keys))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="kv-outlet", daemon=True)
            self._thread.start()
        own = SenderKey(self._stage, keys.public)
        return replace(notice, sender_keys=(*notice.sender_keys, own))

    def send(self, block: KvBlock) -> None:
        """See KvSender."""
        self._queue.put(_Queued(self._current, block))

    def close(self) -> None:
        """See KvSender."""
        self._current += 1
        self._queue.put(None)  # which ends the thread: a stage does not wait for it

    # ----------------------------------------------------------- in its thread

    def _run(self) -> None:
        # Here, so that a start loads nothing for it.
        from services.worker.runtime.dataplane.kv_wire import encode_block

        self._encode = encode_block
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        outlet: zmq.Socket[bytes] | None = None
        while (item := self._queue.get()) is not None:
            if isinstance(item, _Connection):
                if outlet is not None:
                    outlet.close(0)
                outlet = self._connected(context, item)
            elif outlet is not None and not self._is_sent(outlet, item):
                outlet.close(0)
                outlet = None  # nobody is there any more; the entry asks again or gives up
        context.destroy(0)

    def _connected(
        self, context: "zmq.Context[zmq.Socket[bytes]]", connection: _Connection
    ) -> "zmq.Socket[bytes]":
        inlet = Neighbour(ENTRY_STAGE, connection.inlet.address, connection.inlet.public_key)
        outlet = open_outlet(context, self._security, connection.keys, inlet)
        outlet.connect(inlet.address)
        return outlet

    def _is_sent(self, outlet: "zmq.Socket[bytes]", queued: _Queued) -> bool:
        """False when the inlet takes nothing any more."""
        if queued.connection != self._current:
            return True
        frames = self._encode(queued.block)
        for frame in frames:
            self._before_send(len(frame))
        try:
            outlet.send_multipart(frames)
        except zmq.Again:
            return False
        return True
