"""A link of so many bytes per second in front of a stage's socket."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

PIECE_BYTES = 1 << 14
BUFFER_BYTES = 1 << 18  # of the kernel, so that the rate is felt at once


@contextlib.contextmanager
def slow_link(address: str, bytes_per_s: float) -> Iterator[str]:
    """The address that stands for `address`; either direction is as slow."""
    host, port = address.removeprefix("tcp://").split(":")
    sockets: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    server = socket.create_connection((host, int(port)))
                    sockets.extend((client, server))
                    for end in (client, server):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
                    for ends in ((client, server), (server, client)):
                        threading.Thread(target=_pump, args=(*ends, bytes_per_s)).start()

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()
            for end in sockets:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()


def _pump(source: socket.socket, target: socket.socket, bytes_per_s: float) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(PIECE_BYTES):
            target.sendall(piece)
            time.sleep(len(piece) / bytes_per_s)
