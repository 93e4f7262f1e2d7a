"""What the time of a cold start went to: its critical path by kind of work. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from libs.common.observability.criticalpath import Segment
from libs.common.observability.timeline import ActorKind, TimedStep


class Share(StrEnum):
    """What time is spent on; values are what people read."""

    QUEUE = "queue"  # waiting for room
    SCHEDULING = "scheduling"  # plan, its transaction, telling the nodes
    NETWORK = "network"  # weights on their way into shared memory
    RUNTIME = "runtime"  # process, imports, device context, links between stages
    LOADING = "loading"  # mapping weights and copying them to the device
    PREFILL = "prefill"  # the prompt, to the first token
    HOP = "hop"  # hidden states on their way from stage to stage


_WORKER_SHARES = {
    "map_units": Share.LOADING,
    "weights": Share.LOADING,
    "device_copy": Share.LOADING,
    "load": Share.LOADING,
    "prefill": Share.PREFILL,
    "hop": Share.HOP,
    "head": Share.PREFILL,
    "first_token": Share.PREFILL,
}


@dataclass(frozen=True)
class Part:
    share: Share
    seconds: float
    fraction: float  # of the whole path


def share_of(step: TimedStep) -> Share:
    """A worker's step that is not known here is part of its runtime."""
    match step.kind:
        case ActorKind.SCHEDULER if step.name == "queue":
            return Share.QUEUE
        case ActorKind.SCHEDULER | ActorKind.DELIVERY:
            return Share.SCHEDULING
        case ActorKind.FETCHER:
            return Share.NETWORK
        case ActorKind.WORKER:
            return _WORKER_SHARES.get(step.name, Share.RUNTIME)


def shares(path: Sequence[Segment]) -> tuple[Part, ...]:
    """The largest first; the fractions add up to 1."""
    seconds: dict[Share, float] = {}
    for segment in path:
        share = share_of(segment.step)
        seconds[share] = seconds.get(share, 0.0) + segment.seconds
    total_s = sum(seconds.values())
    parts = (Part(share, part_s, part_s / total_s) for share, part_s in seconds.items())
    return tuple(sorted(parts, key=lambda part: -part.seconds))


def describe_shares(parts: Sequence[Part]) -> str:
    """`93 % network, 5 % runtime, 2 % prefill`; what rounds to nothing is left out."""
    rounded = ((round(100 * part.fraction), part.share.value) for part in parts)
    return ", ".join(f"{percent} % {name}" for percent, name in rounded if percent > 0)
