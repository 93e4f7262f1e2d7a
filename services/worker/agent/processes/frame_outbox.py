"""Frames to one worker process, kept until it has a socket."""

from libs.common.bus.messages import WorkerSpec
from services.worker.agent.processes.frame_connection import Link
from services.worker.agent.translate import connect_frame
from services.worker.frames.frames import ConnectPeers, StartWorker, ToWorker


class Mailbox:
    def __init__(self) -> None:
        self._link: Link | None = None
        self._early: list[ToWorker] = []
        self._introduced: ConnectPeers | None = None

    def open(self, link: Link, start: StartWorker) -> None:
        """Send `start`, then what has waited."""
        self._link = link
        for frame in (start, *self._early):
            link.send(frame)
        self._early.clear()

    def send(self, frame: ToWorker) -> None:
        if self._link is None:
            self._early.append(frame)
        else:
            self._link.send(frame)

    def introduce(self, spec: WorkerSpec) -> None:
        """Name the neighbours once both are known, and again only if they change."""
        frame = connect_frame(spec)
        if frame is not None and frame != self._introduced:
            self._introduced = frame
            self.send(frame)
