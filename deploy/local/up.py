"""`up`: the stack stays until it is told to end."""

import asyncio
import json
from pathlib import Path

from rich.console import Console

from deploy.local.demo import describe_model
from deploy.local.demo_model import MODEL_NAME, TARGETS
from deploy.local.options import StackOptions
from deploy.local.report.api import ApiClient
from deploy.local.stack import LocalStack

_KEEP_ALIVE_S = 60.0
_NODES_TIMEOUT_S = 30.0
_IMPORT_TIMEOUT_S = 600.0


async def run_up(options: StackOptions, source: Path, console: Console) -> int:
    """Registers the model at `source`, prints how to use it, waits. Raises LocalStackError."""
    async with LocalStack(options) as stack, ApiClient(stack.gateway_url, stack.api_key) as api:
        await api.wait_nodes(len(options.nodes), _NODES_TIMEOUT_S)
        await api.ensure_model(MODEL_NAME, source, {"keep_alive_s": _KEEP_ALIVE_S, "slo": TARGETS})
        async for model in api.wait_imported(MODEL_NAME, _IMPORT_TIMEOUT_S):
            console.print(describe_model(model))
        _print_usage(stack, console)
        await asyncio.Event().wait()
    return 0


def _print_usage(stack: LocalStack, console: Console) -> None:
    body = {"model": MODEL_NAME, "stream": True, "temperature": 0}
    body["messages"] = [{"role": "user", "content": "What is the capital of France?"}]
    # Printed as it is: nothing may break a line that people copy.
    lines = (
        "",
        f"URL      {stack.gateway_url}/v1",
        f"API key  {stack.api_key}",
        f"Logs     {stack.options.state.logs}",
        "",
        f"curl -N {stack.gateway_url}/v1/chat/completions \\",
        f"  -H 'Authorization: Bearer {stack.api_key}' -H 'Content-Type: application/json' \\",
        f"  -d '{json.dumps(body)}'",
        "",
        "Ctrl-C ends the stack.",
    )
    console.print("\n".join(lines), soft_wrap=True, markup=False)
