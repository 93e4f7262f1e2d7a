"""A scenario: everything that a run depends on beside its policy and its seed."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import inf
from pathlib import Path

from services.scheduler.simulation.cluster.compute import ComputeSharing
from services.scheduler.simulation.errors import ScenarioError
from services.scheduler.simulation.scenario.machines import (
    NodeGroup,
    Speeds,
    read_devices,
    read_nodes,
    read_speeds,
)
from services.scheduler.simulation.scenario.models import ModelGroup, read_models
from services.scheduler.simulation.scenario.overrides import Override, merged, overridden
from services.scheduler.simulation.scenario.section import GIGA, Section
from services.scheduler.simulation.scenario.traffic import Traffic, read_traffic

# Nodes that are rented for their GPUs bring their memory with them. What a byte of it would cost
# alone is some tenth of what one costs on the cheapest of these GPUs, and less on others.
HOST_MEMORY_PRICE = 0.1
_BUILTIN = files("services.scheduler.simulation.scenario") / "builtin"


@dataclass(frozen=True)
class LeaderTiming:
    round_s: float  # of a round: from what it looks at until its decisions are carried out
    pause_s: float  # after a round, unless somebody waits for the next one
    sweep_interval_s: float
    message_s: float  # one way over the bus
    # As the published scheduler: who asks while an endpoint of the model starts is not looked at
    # before all that start have.
    waits_for_starts: bool = False
    # And it takes so long for everything of a start but its bytes, on every node; None: as nodes
    # have shown.
    assumed_launch_s: float | None = None


@dataclass(frozen=True)
class Consolidation:
    """Of a pipeline whose entry has memory for the whole model: once it serves, it becomes one
    worker."""

    is_possible: bool
    switch_pause_s: float  # in which nobody of the endpoint computes


@dataclass(frozen=True)
class Scenario:
    name: str
    description: str
    constants: str | None  # which set of constants was laid over the file
    duration_s: float  # in which requests come
    drain_s: float  # that is waited for the last ones to end
    deadline_s: float  # of a request
    leader: LeaderTiming
    egress_bytes_per_s: float  # of the object store; inf: no limit
    hop_s: float  # from a stage to the next, of a decode step
    prompt_hop_s: float  # the same of a whole prompt
    sharing: ComputeSharing
    keeps_units: bool  # in host caches, when no worker needs them any more
    consolidation: Consolidation
    host_memory_price: float  # of a byte of host memory, as part of one of device memory
    nodes: tuple[NodeGroup, ...]
    speeds: Speeds
    models: tuple[ModelGroup, ...]
    traffic: Traffic


def load(name: str, overrides: Sequence[Override] = (), constants: str | None = None) -> Scenario:
    """A file, or the name of a built-in scenario. Raises ScenarioError."""
    return parse(name, _text(name), overrides, constants)


def builtin_names() -> tuple[str, ...]:
    return tuple(sorted(Path(entry.name).stem for entry in _BUILTIN.iterdir()))


def parse(
    source: str, text: str, overrides: Sequence[Override] = (), constants: str | None = None
) -> Scenario:
    """Raises ScenarioError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ScenarioError(source, "the file", None, f"toml ({exc})") from exc
    return _read(source, table, overrides, constants)


def _text(name: str) -> str:
    path = Path(name)
    if path.suffix != ".toml" and name in builtin_names():
        return (_BUILTIN / f"{name}.toml").read_text()
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        known = ", ".join(builtin_names())
        problem = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
        raise ScenarioError(
            name, "SCENARIO", name, f"a file, or one of {known}: {problem}"
        ) from exc


def _read(
    source: str, table: Mapping[str, object], overrides: Sequence[Override], constants: str | None
) -> Scenario:
    table = overridden(source, table, [o for o in overrides if o.key == "constants"])
    chosen, table = _with_constants(source, table, constants)
    table = overridden(source, table, [o for o in overrides if o.key != "constants"])
    root = Section(source, "", table)
    devices = read_devices(root.section("devices"))
    store, network = (
        root.section("store", is_optional=True),
        root.section("network", is_optional=True),
    )
    cache, cost = (
        root.section("host_cache", is_optional=True),
        root.section("cost", is_optional=True),
    )
    scenario = Scenario(
        name=Path(source).stem,
        description=root.text("description", ""),
        constants=chosen,
        duration_s=root.positive("duration_s"),
        drain_s=root.number("drain_s", 900.0),
        deadline_s=root.positive("deadline_s", 600.0),
        leader=_leader(root.section("leader", is_optional=True)),
        egress_bytes_per_s=store.positive("egress_gbps") * GIGA / 8 if store.table else inf,
        hop_s=(hop_s := network.number("hop_s", 0.0)),
        prompt_hop_s=network.number("prompt_hop_s", hop_s),
        sharing=root.choice("compute_sharing", ComputeSharing, ComputeSharing.WEIGHTS),
        keeps_units=cache.flag("keeps_units", True),
        consolidation=_consolidation(root.section("consolidation", is_optional=True)),
        host_memory_price=cost.number("host_memory_price", HOST_MEMORY_PRICE, most=1.0),
        nodes=read_nodes(root.section("nodes"), devices),
        speeds=read_speeds(root.section("speeds")),
        models=read_models(root.section("models")),
        traffic=read_traffic(root.section("traffic")),
    )
    for section in (root, store, network, cache, cost):
        section.finish()
    _check_speeds(scenario)
    return scenario


def _with_constants(
    source: str, table: Mapping[str, object], wanted: str | None
) -> tuple[str | None, Mapping[str, object]]:
    """The file without its sets of constants, with the chosen one laid over it."""
    sets, named = table.get("constants_of", {}), wanted or table.get("constants")
    rest = {key: v for key, v in table.items() if key not in ("constants_of", "constants")}
    if named is None:
        return None, rest
    if not isinstance(sets, Mapping) or named not in sets:
        known = ", ".join(sets) if isinstance(sets, Mapping) and sets else "none: it has no sets"
        raise ScenarioError(source, "constants", named, f"one of {known}")
    return str(named), merged(rest, sets[named])


def _leader(own: Section) -> LeaderTiming:
    timing = LeaderTiming(
        round_s=own.number("round_s", 0.0),
        pause_s=own.number("pause_s", 0.0),
        sweep_interval_s=own.positive("sweep_interval_s", 1.0),
        message_s=own.number("message_s", 0.0),
        waits_for_starts=own.flag("waits_for_starts", False),
        assumed_launch_s=own.number("assumed_launch_s") if "assumed_launch_s" in own else None,
    )
    own.finish()
    return timing


def _consolidation(own: Section) -> Consolidation:
    found = Consolidation(
        is_possible=own.flag("is_possible", False),
        switch_pause_s=own.number("switch_pause_s", 0.05),
    )
    own.finish()
    return found


def _check_speeds(scenario: Scenario) -> None:
    """Every model may run on every node."""
    for nodes in scenario.nodes:
        for models in scenario.models:
            scenario.speeds.of(nodes.device.name, models.architecture)
