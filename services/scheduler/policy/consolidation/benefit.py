"""When it is worth it that a pipeline becomes one worker. Pure.

It saves what the others hold of devices, from the switch on for as long as the endpoint is expected
to stay. It costs, in the same unit of device memory x time,

- the layers in the entry's host cache for as long: host memory is worth a tenth of device memory;
- a tenth of what all hold while it lasts: the pipeline may take that much longer for each token.

So it pays if

    freed x (remaining - duration) > load / 10 x remaining + held / 10 x duration

Also where it does not pay it is worth it if tokens take longer than the model's target, and the
whole model would meet it.
"""

from dataclasses import dataclass

HOST_MEMORY_SHARE = 0.1
SLOWED_SHARE = 0.1


@dataclass(frozen=True)
class Benefit:
    freed_bytes: int  # that the others hold of devices
    held_bytes: int  # that all hold
    load_bytes: int  # of the layers that the entry lacks
    duration_s: float  # until it has switched
    remaining_s: float  # for which the endpoint is expected to stay

    @property
    def saved_byte_s(self) -> float:
        return self.freed_bytes * max(0.0, self.remaining_s - self.duration_s)

    @property
    def cost_byte_s(self) -> float:
        host_byte_s = HOST_MEMORY_SHARE * self.load_bytes * self.remaining_s
        return host_byte_s + SLOWED_SHARE * self.held_bytes * self.duration_s

    @property
    def pays(self) -> bool:
        return self.saved_byte_s > self.cost_byte_s


@dataclass(frozen=True)
class TokenTimes:
    """Per token, with as many requests at once as there are now."""

    pipeline_s: float
    whole_s: float  # of the whole model on one worker
    target_s: float

    @property
    def is_mended(self) -> bool:
        return self.whole_s <= self.target_s < self.pipeline_s


def reason_for(benefit: Benefit, times: TokenTimes) -> str | None:
    """In words; None: it is not worth it."""
    if benefit.remaining_s <= benefit.duration_s:
        return None
    if benefit.pays:
        return (
            f"it frees {benefit.freed_bytes / 1e6:.0f} MB after {benefit.duration_s:.1f} s, "
            f"and is expected to stay for {benefit.remaining_s:.0f} s"
        )
    if times.is_mended:
        return (
            f"a token takes {1000 * times.pipeline_s:.0f} ms, and one worker would take "
            f"{1000 * times.whole_s:.0f} ms, of {1000 * times.target_s:.0f} ms"
        )
    return None
