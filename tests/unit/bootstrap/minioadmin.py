"""MinIO's admin interface, as far as it makes users: it keeps what it was asked, decrypted."""

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from minio.crypto import decrypt, encrypt
from urllib3.response import HTTPResponse

SECRET_KEY = "administrator-secret"


@dataclass
class MinioAdminDouble:
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    secret_keys: dict[str, str] = field(default_factory=dict)
    attached: dict[str, list[str]] = field(default_factory=dict)
    is_refusing: bool = False

    def handle(self, command: str, query: dict[str, list[str]], body: bytes) -> tuple[int, bytes]:
        if self.is_refusing:
            return 403, b'{"Code":"SignatureDoesNotMatch"}'
        match command:
            case "add-canned-policy":
                self.policies[query["name"][0]] = json.loads(body)
            case "add-user":
                self.secret_keys[query["accessKey"][0]] = json.loads(_opened(body))["secretKey"]
            case "idp/builtin/policy/attach":
                wanted = json.loads(_opened(body))
                if self.attached.get(wanted["user"]) == wanted["policies"]:
                    return 400, b'{"Code":"XMinioAdminPolicyChangeAlreadyApplied"}'
                self.attached[wanted["user"]] = wanted["policies"]
                return 200, encrypt(b"{}", SECRET_KEY)
            case _:
                return 404, b"{}"
        return 200, b""

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Its URL."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _opened(body: bytes) -> bytes:
    response = HTTPResponse(body=io.BytesIO(body), preload_content=False)
    return bytes(decrypt(response, SECRET_KEY))


def _handler(double: MinioAdminDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            command = url.path.removeprefix("/minio/admin/v3/")
            status, answer = double.handle(command, parse_qs(url.query), body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_PUT = do_POST = _answer

        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

    return Handler
