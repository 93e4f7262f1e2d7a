"""What a scenario says of devices, nodes and how fast they compute."""

from dataclasses import dataclass

from services.scheduler.simulation.cluster.compute import Speed, StepCurve
from services.scheduler.simulation.errors import ScenarioError
from services.scheduler.simulation.scenario.section import GIGA, Section

_BITS = 8


@dataclass(frozen=True)
class StartFigures:
    """How a worker starts on a device. While bytes still arrive, those that are there go on."""

    launch_s: float  # of a process, until it could compute if its weights were there
    standby_launch_s: float  # the same with a process that has imported everything
    register_s: float  # from the launch until it has told its address
    load_after_s: float  # from the launch until it can copy to the device
    load_bytes_per_s: float  # from the host cache to the device
    tail_s: float  # after the last byte is on the device
    # Of a start whose process is launched once the weights are there:
    sequential_launch_s: float
    sequential_load_bytes_per_s: float
    sequential_tail_s: float
    stop_s: float  # from the word to stop until its memory is free
    # A prompt that waits is computed by an entry's layers as they arrive; else once all are there.
    prefills_while_loading: bool = False


@dataclass(frozen=True)
class DeviceKind:
    name: str
    memory_bytes: int
    process_bytes: int  # what each process takes beside weights and KV cache
    start: StartFigures


@dataclass(frozen=True)
class NodeGroup:
    """Nodes that are alike."""

    name: str
    count: int
    device: DeviceKind
    num_devices: int
    nic_bytes_per_s: float
    host_cache_bytes: int
    num_standbys: int
    standby_bytes: int  # of host memory, each
    standby_refill_s: float  # until a new one stands where one was taken
    # Counted from when no worker of the node is starting, one standby after the other.
    refills_when_quiet: bool

    @property
    def node_ids(self) -> tuple[str, ...]:
        return tuple(f"{self.name}-{number:05d}" for number in range(self.count))


def read_devices(section: Section) -> dict[str, DeviceKind]:
    found = {}
    for name, own in section.sections():
        found[name] = DeviceKind(
            name,
            memory_bytes=own.bytes_of_gb("memory_gb"),
            process_bytes=own.bytes_of_gb("process_gb", 0.0),
            start=_start_figures(own),
        )
        own.finish()
        if found[name].memory_bytes <= found[name].process_bytes:
            raise own.error("memory_gb", "more than process_gb, so that a model finds room")
    return found


def _start_figures(own: Section) -> StartFigures:
    launch_s = own.number("launch_s")
    load_gb_per_s, tail_s = own.positive("load_gb_per_s"), own.number("tail_s")
    sequential_gb_per_s = own.positive("sequential_load_gb_per_s", load_gb_per_s)
    return StartFigures(
        launch_s=launch_s,
        standby_launch_s=own.number("standby_launch_s", launch_s),
        register_s=own.number("register_s", 0.0),
        load_after_s=own.number("load_after_s", 0.0),
        load_bytes_per_s=load_gb_per_s * GIGA,
        tail_s=tail_s,
        sequential_launch_s=own.number("sequential_launch_s", launch_s),
        sequential_load_bytes_per_s=sequential_gb_per_s * GIGA,
        sequential_tail_s=own.number("sequential_tail_s", tail_s),
        stop_s=own.number("stop_s", 0.0),
        prefills_while_loading=own.flag("prefills_while_loading", False),
    )


def read_nodes(section: Section, devices: dict[str, DeviceKind]) -> tuple[NodeGroup, ...]:
    found = []
    for name, own in section.sections():
        kind = own.text("device")
        if kind not in devices:
            raise own.error("device", f"one of {', '.join(devices)}")
        found.append(
            NodeGroup(
                name,
                count=own.integer("count", least=1),
                device=devices[kind],
                num_devices=own.integer("num_devices", least=1),
                nic_bytes_per_s=own.positive("nic_gbps") * GIGA / _BITS,
                host_cache_bytes=own.bytes_of_gb("host_cache_gb"),
                num_standbys=own.integer("num_standbys", 0),
                standby_bytes=own.bytes_of_gb("standby_gb", 0.0),
                standby_refill_s=own.number("standby_refill_s", devices[kind].start.launch_s),
                refills_when_quiet=own.flag("refills_when_quiet", False),
            )
        )
        own.finish()
    return tuple(found)


@dataclass(frozen=True)
class Speeds:
    """By kind of device and by architecture of the model."""

    source: str
    by_pair: dict[tuple[str, str], Speed]

    def of(self, device: str, architecture: str) -> Speed:
        """Raises ScenarioError if the scenario does not say."""
        found = self.by_pair.get((device, architecture))
        if found is None:
            key = f"speeds.{device}.{architecture}"
            raise ScenarioError(self.source, key, None, "a table of figures; it is missing")
        return found


def read_speeds(section: Section) -> Speeds:
    found = {}
    for device, of_device in section.sections():
        for architecture, own in of_device.sections():
            found[device, architecture] = Speed(
                own.number("prefill_s_per_token"), StepCurve(own.points("decode_step_s"))
            )
            own.finish()
    return Speeds(section.source, found)
