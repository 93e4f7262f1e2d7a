"""Writes what was found: JSON, a picture, lines on the screen."""

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.coldpath.growth import Point, growth, points
from benchmarks.coldpath.models import SEED
from benchmarks.coldpath.samples import Samples
from benchmarks.coldpath.summary import sequential_parts, summary
from benchmarks.coldpath.variants import GROWTH_BY_SIZE, GROWTH_BY_STAGES
from benchmarks.report import OUT, Bars, draw_bars, print_summary, write_report

PACKAGES = ("torch", "nats-py", "pyzmq", "uvloop", "sqlalchemy", "asyncpg", "blake3")
_COLD, _CACHED = "cold", "cached"
# By group: the figures of its bars.
_FAST_BARS = {
    "sequential": ("ttft_sequential_s", "ttft_sequential_warm_cache_s"),
    "s = 1": ("ttft_s1_s", "ttft_s1_warm_cache_s"),
    "s = 2": ("ttft_s2_s", "ttft_s2_warm_cache_s"),
    "s = 4": ("ttft_s4_s", "ttft_warm_cache_s"),
    "s = 1,\nstandby": ("ttft_s1_standby_s", "ttft_s1_standby_warm_cache_s"),
    "s = 2,\nstandby": ("ttft_s2_standby_s", "ttft_s2_standby_warm_cache_s"),
    "s = 4,\nstandby": ("ttft_s4_standby_s", "ttft_warm_cache_standby_s"),
    "bound,\ns = 4": ("bound_s4_s", None),
}
_SLOW_BARS = {"sequential": "ttft_sequential_100mbit_s", "s = 4": "ttft_s4_100mbit_s"}
_VLLM_BARS = {
    "vLLM": "ttft_vllm_s",
    "sequential": "ttft_sequential_s",
    "s = 4": "ttft_s4_s",
    "s = 4,\nstandby": "ttft_s4_standby_s",
}


def write(samples: Samples) -> None:
    figures = summary(samples, OUT / "fetch.json")
    print_summary(figures)
    write_report(
        "cold",
        summary=figures,
        samples=samples.as_json(),
        seeds=f"random weights: {SEED}; drawn tokens: none, answers are greedy",
        packages=PACKAGES,
        sequential=sequential_parts(samples),
        growth=growth(samples),
    )
    draw_bars("cold", _panels(figures))
    if panels := _growth_panels(samples):
        draw_bars("cold-growth", panels)


def _panels(figures: Mapping[str, float | None]) -> list[Bars]:
    def values(keys: Iterable[str | None]) -> list[float | None]:
        return [None if key is None else figures[key] for key in keys]

    fast = {
        label: values(bars[place] for bars in _FAST_BARS.values())
        for place, label in enumerate((_COLD, _CACHED))
    }
    return [
        Bars("first text, links of 400 Mbit", "s", list(_FAST_BARS), fast),
        Bars("100 Mbit", "s", list(_SLOW_BARS), {_COLD: values(_SLOW_BARS.values())}),
        Bars("beside vLLM, 400 Mbit", "s", list(_VLLM_BARS), {_COLD: values(_VLLM_BARS.values())}),
    ]


def _growth_panels(samples: Samples) -> list[Bars]:
    """Of the series that were measured."""
    by_size, by_stages = points(samples, GROWTH_BY_SIZE), points(samples, GROWTH_BY_STAGES)
    sizes = [f"{point.weight_bytes / 1e9:.2g} GB" for point in by_size]
    stages = [f"s = {point.num_stages}" for point in by_stages]
    panels = [
        _growth_panel("s = 4", sizes, by_size),
        _growth_panel("0.27 GB", stages, by_stages),
    ]
    return [panel for panel in panels if panel.groups]


def _growth_panel(title: str, groups: Sequence[str], found: Sequence[Point]) -> Bars:
    values = {
        "first token": [point.ttft_s for point in found],
        "fetch": [point.fetch_s for point in found],
        "bytes/(s·b)": [point.x_s for point in found],
    }
    return Bars(f"cold start with standbys, {title}", "s", groups, values)
