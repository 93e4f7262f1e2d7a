"""A process of hollow nodes: `python -m benchmarks.controlplane.hollow SETTINGS.json`."""

import sys
from pathlib import Path

import uvloop

from benchmarks.controlplane.hollow import bootstrap
from benchmarks.controlplane.hollow.settings import HollowSettings

if __name__ == "__main__":
    settings = HollowSettings.read(Path(sys.argv[1]))
    bootstrap.configure(settings)
    uvloop.run(bootstrap.run(settings))
