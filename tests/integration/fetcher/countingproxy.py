"""Between a fetcher and a real S3 server: passes every GET on and counts what it was asked for."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from libs.common.settings import ObjectStoreSettings

_PIECE_BYTES = 1 << 16
_TIMEOUT_S = 20.0


@dataclass
class CountingProxy:
    upstream: ObjectStoreSettings
    ranges: list[tuple[str, str]] = field(default_factory=list)  # path and range
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def running(self) -> Iterator[ObjectStoreSettings]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield replace(self.upstream, endpoint=f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def _handler_of(proxy: CountingProxy) -> type[BaseHTTPRequestHandler]:
    address = urlsplit(proxy.upstream.endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if (wanted := self.headers["range"]) is not None:
                with proxy.lock:
                    proxy.ranges.append((self.path, wanted))
            upstream = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)
            try:
                upstream.request("GET", self.path, headers=dict(self.headers))
                self._pass_on(upstream.getresponse())
            except ConnectionError:  # the fetcher was killed
                self.close_connection = True
            finally:
                upstream.close()

        def _pass_on(self, answer: http.client.HTTPResponse) -> None:
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            while piece := answer.read(_PIECE_BYTES):
                self.wfile.write(piece)

        def log_message(self, *_args: object) -> None:
            return

    return Handler
