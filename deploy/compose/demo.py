"""`python -m deploy.compose.demo`: the demo's story against the stack in containers."""

import argparse
import sys
from pathlib import Path, PurePosixPath

from rich.console import Console

from deploy.bootstrap.names import API_KEY_SECRET
from deploy.local.demo import Demo, ShownStack
from deploy.local.demo_model import FILE_NAME
from deploy.local.errors import LocalStackError
from deploy.local.processes.runner import run_until_signal
from deploy.local.report.api import ApiClient

_NUM_NODES = 4
_NODES_TIMEOUT_S = 60.0
_SECRETS = Path(__file__).parent / "secrets"


async def run_demo(api: ApiClient, source: Path, console: Console) -> int:
    """The exit code; `source` is the model's path as the importer sees it."""
    try:
        async with api:
            console.rule("1. A stack in containers", align="left")
            await api.wait_nodes(_NUM_NODES, _NODES_TIMEOUT_S)
            await Demo(await _shown(api), api, console).show(source)
    except LocalStackError as error:
        console.print(f"\n{error}", style="bold red", markup=False, soft_wrap=True)
        return 1
    return 0


async def _shown(api: ApiClient) -> ShownStack:
    """From outside, workers are what the API tells."""

    async def count_workers() -> int:
        return sum(node.num_workers for node in await api.nodes())

    rates = {node.node_id: node.nic_bytes_per_s for node in await api.nodes()}
    return ShownStack(rates, count_workers, "processes, says the API")


def main() -> int:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="of the proxy")
    parser.add_argument("--api-key-file", type=Path, default=_SECRETS / API_KEY_SECRET)
    parser.add_argument("--models", default="/models", help="the importer's folder of models")
    options = parser.parse_args()
    api = ApiClient(options.url, options.api_key_file.read_text().strip())
    source = Path(PurePosixPath(options.models) / FILE_NAME)
    return run_until_signal(run_demo(api, source, Console(highlight=False)))


if __name__ == "__main__":
    sys.exit(main())
