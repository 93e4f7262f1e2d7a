"""What a stack is asked to be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.nodes import NodeOptions
from deploy.local.services import MODULES
from deploy.local.state.ports import LOOPBACK
from deploy.local.state.state_folder import StateFolder
from libs.common.startmode import StartMode


@dataclass(frozen=True)
class StackOptions:
    """`service_env` goes to every service by full name and wins over what the stack sets.

    `modules` names what runs as `python -m` for each service; tests put stand-ins there.
    """

    state: StateFolder
    nodes: tuple[NodeOptions, ...]
    host: str = LOOPBACK  # the gateways' address; everything else stays on loopback
    port: int | None = None  # of the first gateway; free ones for the others, and for None
    num_schedulers: int = 1
    num_gateways: int = 1
    start_mode: StartMode = StartMode.HYDRA
    standby_runtimes: int = 1  # of each node
    s3_processes: int = 1  # of the object store: more for links that are faster than one serves
    min_cached_bytes: int = 0  # what the host caches must hold together, or nothing is started
    import_roots: tuple[Path, ...] = ()  # besides the state folder's `sources`
    service_env: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=lambda: MODULES)
