"""Everything that a worker imports on its way, imported once for all that are forked from here."""

import gc
import importlib

# As worker_process.py, and what it calls, import them.
MODULES = (
    "torch",
    "services.worker.runtime.worker_process",
    "services.worker.runtime.assembly",
    "services.worker.runtime.cuda.start",
    "services.worker.runtime.cuda.kernels",
    "services.worker.runtime.neighbours",
    "services.worker.runtime.dataplane.ring",
    "services.worker.runtime.dataplane.kv_inlet",
    "services.worker.runtime.dataplane.kv_outlet",
    "services.worker.runtime.consolidation.driver",
    "services.worker.runtime.consolidation.growth_driver",
    "services.worker.runtime.compute.readings",
    "encodings.idna",  # by the first address that is given to a socket
)


def preload() -> None:
    """Touches no device and leaves no thread behind: neither would survive a fork."""
    for name in MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection would write to pages that are shared with the forked processes
