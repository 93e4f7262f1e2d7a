"""Device memory x time of a trace, with consolidation and without."""

from pathlib import Path

from benchmarks.consolidation.samples import CostRun, Samples
from benchmarks.replay.models import MODELS, sources
from benchmarks.replay.record import RunRecord, share
from benchmarks.replay.run import RunOptions, described, nodes, num_unserved, run
from benchmarks.replay.states import Prepared, copied


async def measure(folder: Path, samples: Samples, num_traces: int, minutes: float) -> None:
    """Those that are missing. Each seed begins with the other kind."""
    models = folder / "models"
    for seed in range(1, num_traces + 1):
        for can_consolidate in (seed % 2 == 1, seed % 2 == 0):
            own = [found for found in samples.costs(minutes) if found.seed == seed]
            if any(found.can_consolidate is can_consolidate for found in own):
                continue
            models.mkdir(parents=True, exist_ok=True)
            imported = await Prepared(folder, sources(models, MODELS), MODELS).ensure(nodes())
            options = RunOptions(seed, minutes, can_consolidate=can_consolidate)
            record = await run(copied(imported, folder / "state"), options)
            samples.add("cost", _cost_run(options, record))
            words = "with" if can_consolidate else "without"
            print(f"cost, seed {seed}, {words}: {described(record)}", flush=True)


def _cost_run(options: RunOptions, record: RunRecord) -> CostRun:
    requests = record.requests
    return CostRun(
        options.seed,
        options.minutes,
        options.can_consolidate,
        record.device_byte_s,
        num_requests=len(requests),
        num_unserved=num_unserved(record),
        num_starts=len(record.starts),
        ttft_attainment=share([request.has_met_ttft for request in requests]),
        tpot_attainment=share([request.has_met_tpot for request in requests]),
    )
