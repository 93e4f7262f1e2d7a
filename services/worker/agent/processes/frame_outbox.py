"""Frames to one worker process, kept until it has a socket."""

from libs.common.bus.messages import WorkerSpec
from services.worker.agent.processes.frame_connection import FrameConnection
from services.worker.agent.translate import connect_frame
from services.worker.frames.frames import ConnectPeers, StartWorker, ToWorker


class FrameOutbox:
    def __init__(self) -> None:
        self._connection: FrameConnection | None = None
        self._early: list[ToWorker] = []
        self._connected: ConnectPeers | None = None

    def open(self, connection: FrameConnection, start: StartWorker) -> None:
        """Send `start`, then what has waited."""
        self._connection = connection
        for frame in (start, *self._early):
            connection.send(frame)
        self._early.clear()

    def send(self, frame: ToWorker) -> None:
        if self._connection is None:
            self._early.append(frame)
        else:
            self._connection.send(frame)

    def connect_neighbours(self, spec: WorkerSpec) -> None:
        """Name the neighbours once both are known, and again only if they change."""
        frame = connect_frame(spec)
        if frame is not None and frame != self._connected:
            self._connected = frame
            self.send(frame)
