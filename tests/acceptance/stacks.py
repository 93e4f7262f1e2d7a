"""Stacks of real processes, and clients of theirs, for as long as a block."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from deploy.local.nodes import NodeOptions
from deploy.local.options import StackOptions
from deploy.local.stack import LocalStack
from deploy.local.state.state_folder import StateFolder
from tests.acceptance.client import Client


@asynccontextmanager
async def running_stack(
    folder: Path,
    nodes: tuple[NodeOptions, ...],
    sources: Path,
    *,
    can_consolidate: bool = False,
    **options: Any,
) -> AsyncIterator[LocalStack]:
    """Its state is in `folder`, models come from `sources`; `options` are those of StackOptions.
    Warnings of its processes are in their logs. Pipelines stay what they are, so that tests of
    them find them, unless it can consolidate."""
    all_options = StackOptions(
        state=StateFolder(folder),
        nodes=nodes,
        import_roots=(sources,),
        service_env={
            "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "default",
            "HYDRA_CONSOLIDATION": "on" if can_consolidate else "off",
        },
        **options,
    )
    async with LocalStack(all_options) as running:
        yield running


@asynccontextmanager
async def connected(stack: LocalStack) -> AsyncIterator[Client]:
    client = Client(stack.gateway_url, stack.api_key)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def held_down(stack: LocalStack, name: str) -> AsyncIterator[None]:
    """Killed, and there again afterwards, whatever happens: others use the same stack."""
    stack.hold(name)
    stack.kill(name)
    try:
        yield
    finally:
        await stack.start(name)
