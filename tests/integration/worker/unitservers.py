"""Stands where a node's fetcher would be: hands descriptors of unit files to any worker."""

import fcntl
import json
import os
import socket
import threading
from pathlib import Path

from libs.common.weights.unitclient import MAX_REQUEST_BYTES, SOCKET_NAME
from tests.integration.worker.tiny import UnitFolder


class UnitServerDouble:
    """`with` it: a thread answers until the end. `refusal` is (code, message)."""

    def __init__(
        self, socket_dir: Path, folder: UnitFolder, refusal: tuple[str, str] | None = None
    ) -> None:
        self._folder, self._refusal = folder, refusal
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(socket_dir / SOCKET_NAME))
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> "UnitServerDouble":
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        if not connection.recv(MAX_REQUEST_BYTES):
            return
        if self._refusal is not None:
            code, message = self._refusal
            _send(connection, {"kind": "refused", "code": code, "message": message})
            return
        manifest = os.memfd_create("manifest")
        os.write(manifest, self._folder.model.manifest_bytes)
        os.lseek(manifest, 0, os.SEEK_SET)
        _send(connection, {"kind": "manifest"}, manifest)
        for unit in self._folder.model.units:
            descriptor = self._folder.open(unit.entry.digest)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            _send(connection, {"kind": "units", "digests": [unit.entry.digest]}, descriptor)
        _send(connection, {"kind": "done"})


def _send(connection: socket.socket, body: dict[str, object], *descriptors: int) -> None:
    """Sends, and closes our copies of the descriptors."""
    try:
        socket.send_fds(connection, [json.dumps(body).encode()], list(descriptors))
    except OSError:
        pass  # the worker was killed meanwhile
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
