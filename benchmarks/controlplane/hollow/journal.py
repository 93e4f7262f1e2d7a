"""A record of what reached the nodes and of what they sent, for whoever measures.

One JSON object a line; times are of the monotonic clock, which all processes of a machine share:

    {"kind": "desired", "node_id": …, "receiver": "agent" | "fetcher", "arrived_ns": …,
     "answered_ns": …, "leader_epoch": …, "version": …, "refused": null | …,
     "worker_ids": […], "stopped_worker_ids": […], "fetch_ids": […]}
    {"kind": "heartbeat", "node_id": …, "sender": "agent" | "fetcher", "sent_ns": …, "num_bytes": …}
"""

import json
from pathlib import Path
from typing import TextIO

from libs.common.bus.messages import DesiredReply, NodeDesired

DEFAULT_SAMPLE_EVERY = 10


class Journal:
    """Of all nodes of a process; writes nothing until it is opened."""

    def __init__(self) -> None:
        self._file: TextIO | None = None
        self._sample_every = DEFAULT_SAMPLE_EVERY
        self._num_heartbeats = 0

    def open(self, path: Path, heartbeat_sample_every: int = DEFAULT_SAMPLE_EVERY) -> None:
        """Begin a new file, or replace one. Raises OSError."""
        self.close()
        self._sample_every, self._num_heartbeats = heartbeat_sample_every, 0
        self._file = path.open("w", buffering=1)  # a line at a time: it may be read meanwhile

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def wants_heartbeat(self) -> bool:
        """Of this one the size shall be noted; call it once for each."""
        if self._file is None:
            return False
        self._num_heartbeats += 1
        return self._num_heartbeats % self._sample_every == 0

    def note_heartbeat(self, node_id: str, sender: str, sent_ns: int, num_bytes: int) -> None:
        self._write(
            {
                "kind": "heartbeat",
                "node_id": node_id,
                "sender": sender,
                "sent_ns": sent_ns,
                "num_bytes": num_bytes,
            }
        )

    def note_desired(
        self,
        receiver: str,
        desired: NodeDesired,
        reply: DesiredReply,
        *,
        arrived_ns: int,
        answered_ns: int,
    ) -> None:
        self._write(
            {
                "kind": "desired",
                "node_id": desired.node_id,
                "receiver": receiver,
                "arrived_ns": arrived_ns,
                "answered_ns": answered_ns,
                "leader_epoch": desired.leader_epoch,
                "version": desired.version,
                "refused": reply.refused,
                "worker_ids": [worker.worker_id for worker in desired.workers],
                "stopped_worker_ids": list(desired.stopped_workers),
                "fetch_ids": [fetch.fetch_id for fetch in desired.fetches],
            }
        )

    def _write(self, entry: dict[str, object]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(entry, separators=(",", ":")) + "\n")
