"""The figures that count, of all samples that there are."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.coldpath.samples import PathPart, Sample, Samples
from benchmarks.coldpath.variants import FAST_NIC, VLLM
from benchmarks.machine import code_digest, processor

FETCH_FIGURES = (
    "fetch_goodput_ratio_400mbit",
    "fetch_goodput_ratio_4gbit",
    "fetch_cpu_s_per_gb",
)


def summary(samples: Samples, fetch_report: Path) -> dict[str, float | None]:
    """Seconds unless a name says otherwise; None: not measured."""
    seconds = {
        "bound_s4_s": bound_s(samples.of("s4")),
        "bytes_over_s4_links_s": _even_s(samples.middle("s4")),
        "ttft_sequential_s": samples.median_ttft_s("sequential"),
        "ttft_s1_s": samples.median_ttft_s("s1"),
        "ttft_s2_s": samples.median_ttft_s("s2"),
        "ttft_s4_s": samples.median_ttft_s("s4"),
        "ttft_s4_standby_s": samples.median_ttft_s("s4_standby"),
        "ttft_s1_standby_s": samples.median_ttft_s("s1_standby"),
        "ttft_s2_standby_s": samples.median_ttft_s("s2_standby"),
        "ttft_sequential_warm_cache_s": samples.median_ttft_s("sequential_warm_cache"),
        "ttft_s1_warm_cache_s": samples.median_ttft_s("s1_warm_cache"),
        "ttft_s2_warm_cache_s": samples.median_ttft_s("s2_warm_cache"),
        "ttft_s1_standby_warm_cache_s": samples.median_ttft_s("s1_standby_warm_cache"),
        "ttft_s2_standby_warm_cache_s": samples.median_ttft_s("s2_standby_warm_cache"),
        "ttft_warm_cache_s": samples.median_ttft_s("s4_warm_cache"),
        "ttft_warm_cache_standby_s": samples.median_ttft_s("s4_standby_warm_cache"),
        "ttft_sequential_100mbit_s": samples.median_ttft_s("sequential_100mbit"),
        "ttft_s4_100mbit_s": samples.median_ttft_s("s4_100mbit"),
        "ttft_vllm_s": samples.median_ttft_s(VLLM),
    }
    sequential = samples.middle("sequential")
    explained = None if sequential is None else sequential.explained
    return {
        **seconds,
        **_ratios(seconds),
        "sequential_explained": explained,
        **_of_the_fetcher(fetch_report),
    }


def sequential_parts(samples: Samples) -> dict[str, object]:
    """What the sequential start's time went to, by its own record."""
    sample = samples.middle("sequential")
    if sample is None:
        return {}
    parts: dict[str, float] = {}
    for part in sample.path:
        key = _words(part)
        parts[key] = parts.get(key, 0.0) + part.seconds
    return {"ttft_s": sample.ttft_s, "explained": sample.explained, "parts_s": parts}


def bound_s(found: Sequence[Sample]) -> float | None:
    """The largest stage through one link, and the prefill: what an endpoint took for the same
    prompt that had everything in place, from the client's request to its first text. Memory of a
    processor has no link of its own that bytes had to pass."""
    prefills_s = [sample.again_ttft_s for sample in found if sample.again_ttft_s is not None]
    if not prefills_s:
        return None
    return found[0].largest_stage_bytes / FAST_NIC + median(prefills_s)


def _even_s(sample: Sample | None) -> float | None:
    return None if sample is None else sample.weight_bytes / (4 * FAST_NIC)


def _words(part: PathPart) -> str:
    who = part.actor.partition("/")[0] if "/" in part.actor else "worker"
    return part.step if part.actor == "scheduler" else f"{who} {part.step}"


def _ratios(seconds: Mapping[str, float | None]) -> dict[str, float | None]:
    def ratio(over: str, under: str) -> float | None:
        above, below = seconds[over], seconds[under]
        return None if above is None or below is None else above / below

    return {
        "s4_to_sequential": ratio("ttft_s4_s", "ttft_sequential_s"),
        "s4_to_sequential_100mbit": ratio("ttft_s4_100mbit_s", "ttft_sequential_100mbit_s"),
        "s4_standby_to_bound": ratio("ttft_s4_standby_s", "bound_s4_s"),
        "vllm_to_s4_standby": ratio("ttft_vllm_s", "ttft_s4_standby_s"),
        "vllm_to_s4": ratio("ttft_vllm_s", "ttft_s4_s"),
    }


def is_of_this_code(report: Path) -> bool:
    """And of this kind of processor."""
    if not report.exists():
        return False
    found = json.loads(report.read_text())["machine"]
    return (found.get("code"), found["processor"]) == (code_digest(), processor())


def _of_the_fetcher(report: Path) -> dict[str, float | None]:
    """As its own benchmark found them."""
    found = json.loads(report.read_text())["summary"] if is_of_this_code(report) else {}
    return {name: found.get(name) for name in FETCH_FIGURES}
