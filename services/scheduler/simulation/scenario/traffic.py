"""What a scenario says of requests: how many come, when, and for which models."""

from dataclasses import dataclass
from enum import StrEnum

from services.scheduler.simulation.scenario.section import Section


class ArrivalProcess(StrEnum):
    POISSON = "poisson"  # independent of each other
    # Of each model a renewal process: gaps are Gamma with the given coefficient of variation.
    GAMMA_PER_MODEL = "gamma_per_model"
    # The same of all requests together, whose models are drawn one by one.
    GAMMA_OF_ALL = "gamma_of_all"


class TraceFormat(StrEnum):
    CSV = "csv"  # arrived_at,model,prompt_tokens,output_tokens
    AZURE = "azure"  # TIMESTAMP,ContextTokens,GeneratedTokens: no models


@dataclass(frozen=True)
class Diurnal:
    """The rate at t is the mean times 1 + amplitude cos(2 pi (t - peak) / period)."""

    amplitude: float  # in [0, 1]
    period_s: float
    peak_at_s: float


@dataclass(frozen=True)
class Trace:
    """`scale`: the trace's rate is multiplied by that, by playing it faster."""

    path: str
    format: TraceFormat
    scale: float


@dataclass(frozen=True)
class Traffic:
    """Popularity is Zipf: the k-th model is asked for in proportion to (k + shift)^-exponent. Which
    model is the k-th is drawn, so that every group has its share. `num_generated_per_kept`: so
    many requests are generated for each that is kept, as when a large trace is sampled. `cv` is the
    file's `sampled_cv` where it has one: what such a sample keeps, whatever CV went in."""

    rate_per_s: float
    process: ArrivalProcess
    cv: float
    num_generated_per_kept: float
    zipf_exponent: float
    zipf_shift: float
    diurnal: Diurnal | None
    trace: Trace | None


def read_traffic(section: Section) -> Traffic:
    cv = section.positive("cv", 1.0)
    traffic = Traffic(
        rate_per_s=section.positive("rate_per_s", 1.0 if "trace" in section else None),
        process=section.choice("process", ArrivalProcess, ArrivalProcess.POISSON),
        cv=section.positive("sampled_cv", cv),
        num_generated_per_kept=section.number("num_generated_per_kept", 1.0, least=1.0),
        zipf_exponent=section.number("zipf_exponent", 0.0),
        zipf_shift=section.number("zipf_shift", 0.0),
        diurnal=_diurnal(section) if "diurnal" in section else None,
        trace=_trace(section) if "trace" in section else None,
    )
    section.finish()
    return traffic


def _diurnal(section: Section) -> Diurnal:
    own = section.section("diurnal")
    diurnal = Diurnal(
        own.number("amplitude", most=1.0), own.positive("period_s"), own.number("peak_at_s")
    )
    own.finish()
    return diurnal


def _trace(section: Section) -> Trace:
    own = section.section("trace")
    trace = Trace(
        own.text("path"),
        own.choice("format", TraceFormat, TraceFormat.CSV),
        own.positive("scale", 1.0),
    )
    own.finish()
    return trace
