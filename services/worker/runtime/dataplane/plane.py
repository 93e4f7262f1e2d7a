"""A stage's end of the data plane: bound at once, linked when both neighbours are there.

`connect` and `wake` may be called by any thread; `send` and `receive` belong to the engine's.
Imports no torch: a worker process binds its inlet before it imports anything heavy.
"""

import math
import os
import threading
from collections.abc import Callable
from typing import Final, Self

import zmq

from services.worker.engine.execution.microbatch import MicroBatch
from services.worker.engine.execution.notices import Notice, RingClosed
from services.worker.frames.dataplane import KeyPair, Security
from services.worker.runtime.dataplane.errors import (
    DataPlaneError,
    LinkTimedOut,
    SendTimedOut,
)
from services.worker.runtime.dataplane.sockets import SEND_TIMEOUT_MS, bind, make_keys
from services.worker.runtime.dataplane.watch import Neighbours, NeighbourWatch
from services.worker.runtime.dataplane.wire import (
    Hop,
    decode,
    encode_header,
    encode_notice,
    hidden_frames,
)

CLOSING_S: Final = 0.25  # for what a neighbour said before it was lost to be read


class DataPlane:
    """`linked` and `failed` are called once at most, by the thread that watches the links.

    After a failure `send`, `tell` and `receive` raise it, whether `failed` is given or not. Once
    the ring is closed nothing is a failure any more; sockets stay, so that what is on its way
    arrives.
    """

    def __init__(
        self,
        *,
        stage: int,
        host: str,
        security: Security,
        linked: Callable[[], None] = lambda: None,
        failed: Callable[[DataPlaneError], None] = lambda error: None,
        before_send: Callable[[int], None] = lambda num_bytes: None,
    ) -> None:
        """Binds. `before_send` may hold a message of so many bytes back. Raises BindError."""
        self._stage = stage
        self._tell_linked, self._tell_failed = linked, failed
        self._before_send = before_send
        self.keys: KeyPair = make_keys()
        self._context = zmq.Context()
        self._watch = NeighbourWatch(
            self._context,
            stage=stage,
            security=security,
            keys=self.keys,
            linked=self._note_linked,
            failed=self._note_failed,
        )
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._settled = threading.Event()  # linked, or failed before that
        self._is_linked = self._is_left = False
        self._error: DataPlaneError | None = None
        self._has_raised = threading.Event()  # the error, in the thread that sends and receives
        self._neighbours: Neighbours | None = None
        self._poller = zmq.Poller()
        self._poller.register(self._watch.inlet, zmq.POLLIN)
        self._poller.register(self._wake, zmq.POLLIN)
        self.address = self._bound(host)
        self._watch.start()

    def _bound(self, host: str) -> str:
        try:
            return bind(self._watch.inlet, host)
        except DataPlaneError:
            self._context.destroy(0)
            raise

    # ---------------------------------------------------------------- its life

    def connect(self, neighbours: Neighbours) -> None:
        """Let the previous stage in and look for the next one; a repetition changes nothing."""
        if self._neighbours is None:
            self._neighbours = neighbours
            self._watch.connect(neighbours)
        elif neighbours != self._neighbours:
            raise DataPlaneError("the neighbours of a stage do not change")

    @property
    def is_linked(self) -> bool:
        """Raises what made it fail before that."""
        if not self._is_linked:
            self._raise_failure()
        return self._is_linked

    def wait_linked(self, timeout_s: float) -> None:
        """Until both neighbours said hello. Raises LinkTimedOut or what made it fail."""
        if not self._settled.wait(timeout_s):
            raise LinkTimedOut(self._stage, timeout_s)
        self._raise_failure()

    def close(self) -> None:
        """By the thread that sends and receives, or after it."""
        self._watch.close()
        self._context.destroy(0)
        os.close(self._wake)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # -------------------------------------------------------------- its traffic

    def send(self, batch: MicroBatch, hidden: memoryview, row_bytes: int) -> None:
        """`hidden` is `[rows, row_bytes]` flat, and free again on return.

        Waits for the node's network budget only. Raises NeighbourLost or SendTimedOut.
        """
        self._raise_failure()
        outlet = self._watch.outlet
        assert outlet is not None and self._settled.is_set(), "linked before anything is sent"
        header = encode_header(batch, self._stage, row_bytes, hidden.nbytes)
        self._before_send(len(header) + hidden.nbytes)
        try:
            outlet.send_multipart([header, *hidden_frames(hidden)])
        except zmq.Again as exc:
            raise SendTimedOut(SEND_TIMEOUT_MS / 1000) from exc

    def tell(self, notice: Notice) -> None:
        """To the next stage. Raises NeighbourLost or SendTimedOut, but for `RingClosed`."""
        if isinstance(notice, RingClosed):
            self._is_left = True  # first: who hears it may end at once
        self._raise_failure()
        outlet = self._watch.outlet
        assert outlet is not None and self._settled.is_set(), "linked before anything is sent"
        flags = zmq.NOBLOCK if self._is_left else 0  # who is gone need not hear it
        try:
            outlet.send(encode_notice(notice, self._stage), flags)
        except zmq.Again as exc:
            if not self._is_left:
                raise SendTimedOut(SEND_TIMEOUT_MS / 1000) from exc

    def receive(self, timeout_s: float) -> Hop | Notice | None:
        """The next message of the previous stage; None when none comes in time, or after `wake`.

        The bytes of a hop stay valid as long as it is kept. Raises NeighbourLost or WireError, once
        everything that came before has been given.
        """
        if not self._is_linked:
            self._raise_failure()
        if (message := self._next()) is not None:
            return message
        self._raise_failure()
        ready = dict(self._poller.poll(math.ceil(timeout_s * 1000)))
        if self._wake in ready:
            os.eventfd_read(self._wake)
        message = self._next()
        if message is None:
            self._raise_failure()
        return message

    def wake(self) -> None:
        """End a `receive` early, now or the next one."""
        os.eventfd_write(self._wake, 1)

    def _next(self) -> Hop | Notice | None:
        assert self._neighbours is not None and self._settled.is_set(), "linked before that"
        try:
            frames = self._watch.inlet.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None
        message = decode([frame.buffer for frame in frames], self._neighbours.previous.stage)
        if isinstance(message, RingClosed):
            self._is_left = True
        return message

    def _raise_failure(self) -> None:
        if self._error is not None and not self._is_left:
            self._has_raised.set()
            raise self._error

    # --------------------------------------------------- called by the link watch

    def _note_linked(self) -> None:
        self._is_linked = True
        self._settled.set()
        self._tell_linked()

    def _note_failed(self, error: DataPlaneError) -> None:
        self._error = error
        self._settled.set()
        self.wake()
        if self._stage > 0 and self._is_linked:
            # That the ring is closed may lie in the inlet, which is the other thread's: who closes
            # it tells, and then ends. The entry closes it itself, and waits for nobody.
            self._has_raised.wait(CLOSING_S)
        if not self._is_left:
            self._tell_failed(error)
