"""What models cost, and requests with their SLOs, as rows."""

from collections.abc import Mapping, Sequence

from deploy.cli.output.formatting import size
from deploy.cli.usage_views import ModelUsage, Request, SloTime, Usage

_HOUR_S = 3600


def usage_rows(models: Sequence[ModelUsage]) -> list[tuple[str, ...]]:
    return [
        (
            model.model or model.model_id,
            model.tenant,
            memory_hours(model.memory.total_byte_s),
            *_parts(model),
            str(model.slo.num_met + model.slo.num_missed),
            percent(model.slo.attainment),
            reasons(model.slo.missed),
        )
        for model in models
    ]


def request_rows(requests: Sequence[Request], ages: Sequence[str]) -> list[tuple[str, ...]]:
    return [
        (
            request.id,
            request.model or request.model_id,
            arrived,
            request.outcome or request.state,
            *_times(request.ttft),
            *_times(request.tpot),
            _verdict(request),
        )
        for request, arrived in zip(requests, ages, strict=True)
    ]


def usage_words(usage: Usage) -> str:
    """`97.5 % of 40 met (1 queue); 1.5 GB h of memory`"""
    slo, memory = usage.slo, memory_hours(usage.memory.total_byte_s)
    num = slo.num_met + slo.num_missed
    missed = f" ({reasons(slo.missed)})" if slo.missed else ""
    met = f"{percent(slo.attainment)} of {num} met{missed}" if num else "no requests"
    return f"{met}; {memory} of memory"


def memory_hours(byte_s: float) -> str:
    """`1.5 GB h`: so much device memory for an hour."""
    return f"{size(round(byte_s / _HOUR_S))} h"


def percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f} %"


def reasons(missed: Mapping[str, int]) -> str:
    """`3 cold_start, 1 queue`, the most frequent first."""
    ordered = sorted(missed.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{number} {reason}" for reason, number in ordered) or "-"


def _parts(usage: Usage) -> tuple[str, ...]:
    memory = usage.memory
    parts = (memory.starting_byte_s, memory.busy_byte_s, memory.idle_byte_s)
    total = memory.total_byte_s
    return tuple(percent(part / total if total else None) for part in parts)


def _times(time: SloTime) -> tuple[str, str]:
    return (
        "-" if time.took_ms is None else f"{time.took_ms:.0f} ms",
        "-" if time.slo_ms is None else f"{time.slo_ms} ms",
    )


def _verdict(request: Request) -> str:
    if request.is_slo_met is None:
        return "-"
    return "met" if request.is_slo_met else request.slo_miss or "missed"
