"""`python -m benchmarks.slo [--seeds 5] [--processes 1]`: targets met and cost, by policy.

Simulates the published end-to-end evaluation: coefficients of variation 2, 4 and 8, 0.6 to 0.8
requests a second, with the constants `measured` and `published`. Every policy sees the same
requests of a seed. Writes `benchmarks/out/slo.json` and a picture.
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from benchmarks.report import print_summary, write_report
from benchmarks.slo import published
from benchmarks.slo.cells import SCENARIO, Cell, Sample, cells, run_cell
from benchmarks.slo.picture import draw
from benchmarks.slo.summary import (
    by_place,
    cell_table,
    far_off,
    goals,
    over_seeds,
    summary_of,
    ttft_attainment,
)

PACKAGES = ("numpy", "immutables", "pydantic")
CELL_TIMEOUT_S = 3600.0


def measure(todo: Sequence[Cell], num_processes: int) -> list[Sample]:
    """In the order of the cells, whoever ends first."""
    found: dict[Cell, list[Sample]] = {}
    first = {(cell.base, cell.seed): cell for cell in reversed(todo)}  # of those that are the same
    with ProcessPoolExecutor(num_processes) as pool:
        futures = {pool.submit(run_cell, cell): cell for cell in reversed(first.values())}
        for future in as_completed(futures, CELL_TIMEOUT_S * len(todo)):
            cell = futures[future]
            found[cell] = future.result()
            _tell(cell, found[cell], len(found) / len(first))
    return [
        {**sample, "cv": cell.cv} for cell in todo for sample in found[first[cell.base, cell.seed]]
    ]


def _tell(cell: Cell, samples: Sequence[Sample], part: float) -> None:
    figures = " ".join(f"{s['policy']} {s['ttft_attainment']:.3f}" for s in samples)
    words = f"{cell.constants:9} CV {cell.cv} {cell.rate_per_s}/s seed {cell.seed}"
    print(f"{part:4.0%} {words}: {figures}", flush=True)


def main() -> None:
    parser = ArgumentParser(prog="benchmarks.slo")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    samples = measure(list(cells(options.seeds)), options.processes)
    places = by_place(samples)
    summary, table = summary_of(places), cell_table(places)
    print_summary(summary)
    write_report(
        "slo",
        summary=summary,
        samples=samples,
        seeds=list(range(1, options.seeds + 1)),
        packages=PACKAGES,
        scenario=SCENARIO,
        goals=goals(summary),
        cells=table,
        not_within_8_points=far_off(table),
        published={
            "attainment": {name: dict(own) for name, own in published.ATTAINMENT.items()},
            "cost_ratio": published.COST_RATIO,
            "mean_tpot_ratio": published.TPOT_RATIO,
        },
        notes="attainment: share of requests whose first token was in time; docs/evaluation.md",
    )
    draw(over_seeds(places, ttft_attainment))


if __name__ == "__main__":
    main()
