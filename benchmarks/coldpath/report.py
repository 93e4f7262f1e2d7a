"""Writes what was found: JSON, a picture, lines on the screen."""

from benchmarks.coldpath.growth import growth
from benchmarks.coldpath.models import SEED
from benchmarks.coldpath.samples import Samples
from benchmarks.coldpath.summary import sequential_parts, summary
from benchmarks.report import OUT, Bars, draw_bars, print_summary, write_report

PACKAGES = ("torch", "nats-py", "pyzmq", "uvloop", "sqlalchemy", "asyncpg", "blake3")
_BARS = {
    "sequential": "ttft_sequential_s",
    "s = 1": "ttft_s1_s",
    "s = 2": "ttft_s2_s",
    "s = 4": "ttft_s4_s",
    "s = 4,\nstandby": "ttft_s4_standby_s",
    "s = 4,\ncached": "ttft_warm_cache_s",
    "both": "ttft_warm_cache_standby_s",
    "bound": "bound_s4_s",
    "vLLM": "ttft_vllm_s",
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
    groups = [label for label, key in _BARS.items() if figures[key] is not None]
    values = [figures[_BARS[label]] for label in groups]
    draw_bars("cold", [Bars("first text after a cold start", "s", groups, {"median": values})])
