"""Where stacks keep what they have imported, and the models by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.consolidation.scene import SceneOptions
from deploy.local.state.state_folder import StateFolder


@dataclass(frozen=True)
class Workplace:
    folder: Path
    sources: Mapping[str, Path]

    def scene(
        self,
        nic_bytes_per_s: int,
        *,
        can_consolidate: bool,
        num_standbys: int = 1,
        memory: str | None = None,
    ) -> SceneOptions:
        more = {} if memory is None else {"memory": memory}
        return SceneOptions(
            StateFolder(self.folder / "state"),
            self.sources,
            nic_bytes_per_s,
            can_consolidate,
            num_standbys,
            **more,
        )
