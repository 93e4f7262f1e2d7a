"""Runs that are made once, and kept beside the states of their stacks."""

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.replay.models import MODELS, sources
from benchmarks.replay.record import RunRecord
from benchmarks.replay.run import RunOptions, described, nodes, run
from benchmarks.replay.states import Prepared, copied

_OF_CODE = ("code", "processor")


class RunMissing(Exception):
    """A run was asked for that is not kept, and none may be made."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is missing, or of another trace: run it without --simulate-only")


@dataclass
class KeptRuns:
    """`is_any_code`: runs of other code count, too, and none is made."""

    folder: Path
    is_any_code: bool = False
    _prepared: Prepared | None = None

    async def ensure(
        self, name: str, options: RunOptions, after: RunRecord | None = None
    ) -> RunRecord:
        """`after`: the stack knows what it knew at the end of that run, and no more. Raises
        RunMissing."""
        path = self.folder / f"{name}.json"
        before_at = None if after is None else after.run["measured_at"]
        wanted = {**options.as_json(), "name": name, "after": before_at}
        if (kept := self._read(path, wanted)) is not None:
            return kept
        if self.is_any_code:
            raise RunMissing(path)
        before = await self._imported() if after is None else self._state(after.run["name"])
        state = copied(before, self._state(name))
        print(f"{name}: {options.minutes:g} minutes, seed {options.seed}", flush=True)
        found = await run(state, options)
        print(f"{name}: {described(found)}", flush=True)
        now = datetime.now(UTC).isoformat("T", "seconds")
        record = replace(found, run={**wanted, "measured_at": now})
        record.write(path)
        return record

    def forget(self) -> None:
        for path in self.folder.glob("*.json"):
            if path.stem != "imported":
                path.unlink()
        shutil.rmtree(self.folder / "states", ignore_errors=True)

    def _state(self, name: str) -> Path:
        return self.folder / "states" / name

    async def _imported(self) -> Path:
        if self._prepared is None:
            models = self.folder / "models"
            models.mkdir(parents=True, exist_ok=True)
            self._prepared = Prepared(self.folder, sources(models, MODELS), MODELS)
        return await self._prepared.ensure(nodes())

    def _read(self, path: Path, wanted: dict[str, Any]) -> RunRecord | None:
        if not path.exists():
            return None
        found = RunRecord.read(path)
        ignored = _OF_CODE if self.is_any_code else ()
        is_same = all(found.run.get(k) == v for k, v in wanted.items() if k not in ignored)
        return found if is_same else None
