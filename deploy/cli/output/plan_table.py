"""The plans that a cold start was chosen from, with their figures and why they lost."""

from rich.table import Table

from deploy.cli.output.formatting import size
from deploy.cli.output.terminal import listing
from deploy.cli.views import ColdStartDetail, ConsideredPlan

_HEADINGS = ("STAGES", "WHOLE", "FIRST TOKEN", "PER TOKEN", "MEMORY x TIME", "VERDICT", "NODES")
_UNKNOWN = "-"


def plan_report(start: ColdStartDetail) -> tuple[Table | str, ...]:
    """Nothing for a start of a version that kept no plans."""
    if not start.plans:
        return ()
    table = listing(_HEADINGS, [_row(plan) for plan in start.plans])
    return ("\nplans that were considered; ~: before its layers were cut", table, _ttft(start))


def _ttft(start: ColdStartDetail) -> str:
    predicted, measured = start.predicted_ttft_ms, start.measured_ttft_ms
    if predicted is None:
        return ""
    words = f"first token predicted after {predicted / 1000:.2f} s"
    return words if measured is None else f"{words}, came after {measured / 1000:.2f} s"


def _row(plan: ConsideredPlan) -> tuple[str, ...]:
    sign = "~" if plan.is_estimate else ""
    return (
        str(plan.num_stages),
        str(plan.num_full),
        _UNKNOWN if plan.ttft_ms is None else f"{sign}{plan.ttft_ms / 1000:.2f} s",
        _UNKNOWN if plan.tpot_ms is None else f"{sign}{plan.tpot_ms:.0f} ms",
        _UNKNOWN if plan.cost_byte_s is None else f"{sign}{size(int(plan.cost_byte_s))} s",
        plan.verdict,
        ", ".join(plan.nodes),
    )
