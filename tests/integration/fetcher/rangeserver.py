"""An HTTP server that answers ranged reads of one object, wrongly on request."""

import random
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from libs.common.settings import ObjectStoreSettings


class Fault(Enum):
    NONE = auto()
    CUT = auto()  # the connection breaks within the body
    RESET_BEFORE_ANSWER = auto()
    TRUNCATED = auto()  # a shorter body than the range, and the connection stays
    FLIP = auto()  # one byte of the body is another
    HANG = auto()  # headers, part of the body, then silence
    BUSY = auto()  # 503
    IGNORE_RANGE = auto()  # 200 with the whole object
    OTHER_RANGE = auto()  # 206 with bytes that were not asked for
    CLOSE_QUIETLY = auto()  # all bytes, then the connection ends although it was to be kept


@dataclass
class RangeServer:
    data: bytes
    faults: deque[Fault] = field(default_factory=deque)
    chance: random.Random | None = None  # where faults strike; without it in the middle
    starts: list[int] = field(default_factory=list)  # of every range asked for
    bytes_sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)  # ends what hangs
    authorizations: list[str] = field(default_factory=list)

    def settings(self, port: int) -> ObjectStoreSettings:
        return ObjectStoreSettings(
            endpoint=f"http://127.0.0.1:{port}",
            bucket="bucket",
            region="us-east-1",
            access_key="key",
            secret_key="secret",
        )

    def place(self, num_bytes: int) -> int:
        return num_bytes // 2 if self.chance is None else self.chance.randrange(num_bytes)

    @contextmanager
    def running(self) -> Iterator[ObjectStoreSettings]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield self.settings(server.server_port)
        finally:
            self.released.set()
            server.shutdown()
            thread.join()
            server.server_close()


def _handler_of(state: RangeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.authorizations.append(self.headers["authorization"])
            first, last = map(int, self.headers["range"].removeprefix("bytes=").split("-"))
            with state.lock:
                state.starts.append(first)
                fault = state.faults.popleft() if state.faults else Fault.NONE
            if fault is Fault.RESET_BEFORE_ANSWER:
                self.close_connection = True
                return
            if fault is Fault.BUSY:
                self.send_response(503)
                self.send_header("content-length", "0")
                self.end_headers()
                return
            self._send(fault, first, last)

        def _send(self, fault: Fault, first: int, last: int) -> None:
            total = len(state.data)
            body = bytearray(state.data[first : last + 1])
            given = f"bytes {first}-{last}/{total}"
            if fault is Fault.IGNORE_RANGE:
                body = bytearray(state.data)
            if fault is Fault.OTHER_RANGE:
                given = f"bytes 0-{last - first}/{total}"
            if fault is Fault.FLIP:
                body[state.place(len(body))] ^= 1
            if fault is Fault.TRUNCATED:
                del body[state.place(len(body)) :]
            self.send_response(200 if fault is Fault.IGNORE_RANGE else 206)
            self.send_header("content-length", str(len(body)))
            self.send_header("content-range", given)
            self.end_headers()
            if fault in (Fault.CUT, Fault.HANG):
                del body[state.place(len(body)) :]
            self.wfile.write(body)
            with state.lock:
                state.bytes_sent += len(body)
            if fault is Fault.HANG:
                state.released.wait(30)
            self.close_connection = fault in (Fault.CUT, Fault.CLOSE_QUIETLY, Fault.HANG)

        def log_message(self, *_args: object) -> None:
            return

    return Handler
