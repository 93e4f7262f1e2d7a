"""State folders in which the models are imported: made once, and copied for each run."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.machine import code_digest
from benchmarks.replay.models import WARM_UP, ReplayModel
from deploy.local.nodes import NodeOptions, equal_nodes
from deploy.local.options import StackOptions
from deploy.local.report.api import ApiClient
from deploy.local.stack import LocalStack
from deploy.local.state.state_folder import StateFolder

IMPORT_TIMEOUT_S = 600.0
_IMPORT_NIC_BYTES_PER_S = 2 * 10**9
_NOT_COPIED = ("logs", "traces", "health", "lock", "gateway-url")
_WARM_UP_SETTINGS = {"keep_alive_s": 1.0, "max_context_tokens": 1024}


@dataclass(frozen=True)
class Prepared:
    """`sources`: paths of the models, by name."""

    folder: Path
    sources: Mapping[str, Path]
    models: Sequence[ReplayModel]

    async def ensure(self, nodes: Sequence[NodeOptions]) -> Path:
        """The state of a stack that has imported them and served nobody, in order to be copied."""
        state, done = self.folder / "imported", self.folder / "imported.json"
        wanted = json.dumps([code_digest(), [asdict(model) for model in self.models]])
        if done.exists() and done.read_text() == wanted:
            return state
        done.unlink(missing_ok=True)
        shutil.rmtree(state, ignore_errors=True)
        await self._import(StateFolder(state), nodes)
        done.write_text(wanted)
        return state

    async def _import(self, state: StateFolder, nodes: Sequence[NodeOptions]) -> None:
        options = StackOptions(
            state=state,
            nodes=equal_nodes(
                len(nodes), {"nic": _IMPORT_NIC_BYTES_PER_S, "memory": "1Gi", "host_cache": "512Mi"}
            ),
            standby_runtimes=0,
            import_roots=self.import_roots,
        )
        async with (
            LocalStack(options) as stack,
            ApiClient(stack.gateway_url, stack.api_key) as api,
        ):
            await api.wait_nodes(len(nodes), IMPORT_TIMEOUT_S)
            settings = {model.name: model.settings for model in self.models}
            for name, own in {WARM_UP: _WARM_UP_SETTINGS, **settings}.items():
                await api.ensure_model(name, self.sources[name], own)
            for name in self.sources:
                async for _ in api.wait_imported(name, IMPORT_TIMEOUT_S):
                    pass

    @property
    def import_roots(self) -> tuple[Path, ...]:
        return tuple({path.parent for path in self.sources.values()})


def copied(state: Path, to: Path) -> StateFolder:
    """With owners and modes: Postgres's files are another user's where we are root."""
    shutil.rmtree(to, ignore_errors=True)
    to.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "--archive", str(state), str(to)], check=True, stdin=subprocess.DEVNULL)
    for name in _NOT_COPIED:
        left = to / name
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)
    return StateFolder(to)
