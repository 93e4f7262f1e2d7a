"""The worker process's end of its socketpair: a thread that reads, a thread that writes.

So the agent's end is noticed during a long import or a long step, and sending never waits for the
agent. There is no event loop in this process. Stdlib only.
"""

import logging
import os
import queue
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from libs.common.cause_words import words
from libs.common.causes import Cause
from services.worker.errors import FrameError, WorkerError
from services.worker.frames.frames import (
    HEADER_BYTES,
    ConnectPeers,
    StartWorker,
    StatsChanged,
    ToAgent,
    ToWorker,
    WorkerFailed,
    body_length,
    decode_to_worker,
    encode,
)
from services.worker.runtime.compute.compute_monitor import ComputeMonitor
from services.worker.runtime.failure_causes import cause_of
from services.worker.runtime.frame_queue import FrameQueue
from services.worker.runtime.progress import Progress

logger = logging.getLogger(__name__)

# The agent hears at least this often that the process is not frozen, and how far its engine came.
ALIVE_INTERVAL_S = 1.0
FLUSH_TIMEOUT_S = 2.0


class Channel:
    """Use `start_frame` once, then `listen`; from then on frames come out of `receive`."""

    def __init__(self, worker_end: socket.socket) -> None:
        self.progress = Progress()  # noted by the engine's thread
        self.compute = ComputeMonitor()  # driven by the engine's thread
        self._socket = worker_end
        self._incoming = FrameQueue()
        self._outgoing: queue.SimpleQueue[ToAgent | None] = queue.SimpleQueue()
        self._stats = StatsChanged(0, 0, 0)
        self._connect: Callable[[ConnectPeers], None] = _no_neighbours
        self._notify: Callable[[], None] = lambda: None
        self._failing = threading.Lock()  # never released: the first to fail ends the process
        self._writer = threading.Thread(target=self._write, name="channel-writer", daemon=True)
        self._reader = threading.Thread(target=self._read, name="channel-reader", daemon=True)
        self._writer.start()

    def start_frame(self) -> StartWorker:
        """The first frame, awaited here. Raises FrameError for any other."""
        frame = self._next()
        if not isinstance(frame, StartWorker):
            raise FrameError(f"the first frame is a {type(frame).__name__}")
        return frame

    def listen(self, connect: Callable[[ConnectPeers], None] | None = None) -> None:
        """Frames come out of `receive` from now on, but for ConnectPeers, which cannot wait.

        `connect` is called in the reading thread; the WorkerError it raises ends the process.
        """
        self._connect = connect or self._connect
        self._reader.start()

    def notify(self, arrived: Callable[[], None]) -> None:
        """Call `arrived`, in the reading thread, whenever `receive` has something."""
        self._notify = arrived

    def receive(self, timeout_s: float | None) -> ToWorker | None:
        """The next frame, or None when none has come in time; 0 does not wait at all."""
        return self._incoming.get(timeout_s)

    def send(self, frame: ToAgent) -> None:
        """Never waits."""
        self._outgoing.put(frame)

    def fail(self, cause: Cause) -> NoReturn:
        """Say why, and end the process without unwinding what other threads are doing.

        Any thread; of several that fail only the first is heard, the others wait for the end.
        """
        self._failing.acquire()
        try:
            print(words(cause), file=sys.stderr, flush=True)
            self._outgoing.put(WorkerFailed(cause))
            self._outgoing.put(None)
            self._writer.join(FLUSH_TIMEOUT_S)
        finally:
            os._exit(1)

    # ---------------------------------------------------------------- threads

    def _read(self) -> None:
        try:
            while True:
                self._take(self._next())
        except WorkerError as exc:
            self.fail(cause_of(exc))
        except BaseException as exc:  # else the process would be deaf
            traceback.print_exc()
            self.fail(cause_of(exc, "reading from the agent failed: "))

    def _take(self, frame: ToWorker) -> None:
        if isinstance(frame, ConnectPeers):
            self._connect(frame)
        else:
            self._incoming.put(frame)
            self._notify()

    def _next(self) -> ToWorker:
        return decode_to_worker(self._exactly(body_length(self._exactly(HEADER_BYTES))))

    def _exactly(self, num_bytes: int) -> bytes:
        data = bytearray(num_bytes)
        view = memoryview(data)
        while view:
            try:
                received = self._socket.recv_into(view)
            except ConnectionError:
                received = 0
            if received == 0:
                os._exit(0)  # the agent is gone, and this process is nobody's any more
            view = view[received:]
        return bytes(data)

    def _write(self) -> None:
        while True:
            try:
                frame = self._outgoing.get(timeout=ALIVE_INTERVAL_S)
            except queue.Empty:
                frame = self._stats
            if frame is None:
                return
            if isinstance(frame, StatsChanged):
                self._stats = frame = self._measured(frame)
            try:
                self._socket.sendall(encode(frame))
            except OSError:
                os._exit(0)  # as above

    def _measured(self, stats: StatsChanged) -> StatsChanged:
        return replace(
            stats,
            progress=self.progress.count,
            compute_share=self.compute.share,
            compute_demand=self.compute.demand,
        )


def _no_neighbours(frame: ConnectPeers) -> None:
    raise FrameError(f"a {type(frame).__name__} for a worker that has no neighbours")
