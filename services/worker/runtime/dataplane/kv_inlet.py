"""The entry's end of the way that keys and values take: a thread that receives and checks them."""

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import zmq

from services.worker.engine.consolidation.kv_ports import KvBlock, KvBlockLost
from services.worker.engine.execution.notices import KvInletOpened
from services.worker.frames.dataplane import KeyPair, Neighbour, Security
from services.worker.runtime.dataplane.admission import Admission, user_id
from services.worker.runtime.dataplane.errors import DataPlaneError, KvInletFailed, WireError
from services.worker.runtime.dataplane.kv_wire import KvShape, decode_block
from services.worker.runtime.dataplane.sockets import bind, decode_key, make_keys, open_inlet
from services.worker.runtime.dataplane.watch import ZAP_ADDRESS

MAX_WAITING_BYTES: Final = 64 * 2**20  # of blocks that nobody has taken; then no more are received

Socket = zmq.Socket[bytes]


class KvInlet:
    """For the thread that owns the engine, `wake` for any. Once it is closed it stays so."""

    def __init__(
        self,
        host: str,
        security: Security,
        shape: KvShape,
        *,
        after_receipt: Callable[[int], None] = lambda num_bytes: None,
    ) -> None:
        """`after_receipt` may hold the receipt of more back, in the inlet's own thread."""
        self._host, self._security, self._shape = host, security, shape
        self._after_receipt = after_receipt
        self._keys: KeyPair = make_keys()
        self._changed = threading.Condition()
        self._blocks: deque[KvBlock | KvBlockLost] = deque()
        self._waiting_bytes = 0
        self._is_woken = self._is_closed = False
        self._error: DataPlaneError | None = None
        self._to_admit: tuple[Neighbour, ...] | None = None
        self._stages: dict[bytes, int] = {}  # by what ZeroMQ calls them
        self._wake_thread: int | None = None  # an eventfd

    def open(self) -> KvInletOpened:
        """Raises BindError."""
        assert not self._is_closed
        context: zmq.Context[Socket] = zmq.Context()
        try:
            zap = context.socket(zmq.ROUTER)
            zap.bind(ZAP_ADDRESS)
            inlet = open_inlet(context, self._security, self._keys)
            address = bind(inlet, self._host)
        except DataPlaneError:
            context.destroy(0)
            raise
        self._wake_thread = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        parts = (context, zap, inlet)
        threading.Thread(target=self._run, args=parts, name="kv-inlet", daemon=True).start()
        return KvInletOpened(address, self._keys.public)

    def admit(self, notice: KvInletOpened) -> None:
        """See KvReceiver."""
        peers = [Neighbour(key.stage, "", key.public_key) for key in notice.sender_keys]
        self._stages = {user_id(peer.stage): peer.stage for peer in peers}
        self._to_admit = tuple(peers)
        self._notify_thread()

    def receive(self, timeout_s: float) -> KvBlock | KvBlockLost | None:
        """See KvReceiver. Raises KvInletFailed."""
        with self._changed:
            self._changed.wait_for(self._has_news, timeout_s)
            self._is_woken = False
            if not self._blocks:
                if self._error is not None:
                    raise KvInletFailed(str(self._error)) from self._error
                return None
            block = self._blocks.popleft()
            if isinstance(block, KvBlock):
                self._waiting_bytes -= block.num_bytes
            self._changed.notify_all()
            return block

    def _has_news(self) -> bool:
        return bool(self._blocks) or self._is_woken or self._error is not None

    def wake(self) -> None:
        """See KvReceiver."""
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """See KvReceiver."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._notify_thread()  # which ends by itself: a running engine does not wait for it

    def _notify_thread(self) -> None:
        with self._changed:
            if self._wake_thread is not None:
                os.eventfd_write(self._wake_thread, 1)

    # ----------------------------------------------------------- in its thread

    def _run(self, context: "zmq.Context[Socket]", zap: Socket, inlet: Socket) -> None:
        admission = Admission(self._security, self._keys, decode_key)
        try:
            while not self._is_closed:
                self._turn(zap, inlet, admission)
        except DataPlaneError as exc:
            self._fail(exc)
        except Exception as exc:  # else the engine would wait for blocks that nobody receives
            self._fail(DataPlaneError(f"the inlet of keys and values failed: {exc!r}"))
        finally:
            context.destroy(0)
            with self._changed:
                wake, self._wake_thread = self._wake_thread, None
            if wake is not None:
                os.close(wake)

    def _fail(self, error: DataPlaneError) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def _turn(self, zap: Socket, inlet: Socket, admission: Admission) -> None:
        assert self._wake_thread is not None
        poller = zmq.Poller()
        for source in (self._wake_thread, zap, inlet):
            poller.register(source, zmq.POLLIN)
        ready = dict(poller.poll())
        if self._wake_thread in ready:
            os.eventfd_read(self._wake_thread)
        answers = []
        if self._to_admit is not None:
            answers, self._to_admit = admission.open_to(*self._to_admit), None
        if zap in ready:
            answers += admission.take(zap.recv_multipart())
        for frames in answers:
            zap.send_multipart(frames)
        if inlet in ready:
            self._take(inlet)

    def _take(self, inlet: Socket) -> None:
        message = inlet.recv_multipart(copy=False)
        stage = self._stages.get(str(message[0].get("User-Id")).encode())
        if stage is None:
            raise WireError("a block of a stage that was not admitted")
        block = decode_block([frame.buffer for frame in message], stage, self._shape)
        with self._changed:
            self._blocks.append(block)
            if isinstance(block, KvBlock):
                self._waiting_bytes += block.num_bytes
            self._changed.notify_all()
        self._after_receipt(sum(len(frame.buffer) for frame in message))
        with self._changed:
            self._changed.wait_for(
                lambda: self._waiting_bytes <= MAX_WAITING_BYTES or self._is_closed
            )
