"""The fetcher against the caps of two network cards, and against other clients without a cap.

Everything is measured `repeats` times (7), interleaved, each fetch in a new process, from one S3
server on the same machine whose files lie in memory: on few cores server and client share them.
The fetcher is measured as on a node that was idle before, and without the pages that it made then.
Writes `benchmarks/out/fetch.json` and a picture.
"""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.fetching.workload import (
    NUM_LAYERS,
    WIDTH,
    Job,
    Sample,
    StoredWeights,
    stored_weights,
)
from benchmarks.report import Bars, draw_bars, print_summary, write_report

OURS, OTHERS = "hydraserve", ("minio", "obstore", "runai-model-streamer")
PACKAGES = ("blake3", "uvloop", "nanio", "minio", "obstore", "runai-model-streamer")
MEMORY = Path("/dev/shm")
NUM_REPEATS, TIMEOUT_S = 7, 120.0


@dataclass(frozen=True)
class Case:
    name: str
    client: str
    num_units: int
    nic_bits_per_s: int = 0  # 0: no cap
    is_warm: bool = False

    def goodput_ratio(self, rate_bytes_per_s: float) -> float:
        return rate_bytes_per_s * 8 / self.nic_bits_per_s


CAPPED = (
    Case("400mbit", OURS, 8, 400_000_000, is_warm=True),
    Case("4gbit", OURS, 32, 4_000_000_000, is_warm=True),
)
WARM = Case("uncapped", OURS, 32, is_warm=True)
COLD = Case("uncapped_without_warm_pages", OURS, 32)
OTHER = tuple(Case(f"uncapped_{client}", client, 32) for client in OTHERS)

Samples = Mapping[Case, Sequence[Sample]]


async def measure(repeats: int) -> Samples:
    samples: dict[Case, list[Sample]] = {case: [] for case in (*CAPPED, WARM, COLD, *OTHER)}
    with TemporaryDirectory(dir=MEMORY, prefix="bench-fetch-") as name:
        async with stored_weights(Path(name)) as weights:
            for _ in range(repeats):
                for case, found in samples.items():
                    found.append(await _fetch(case, weights, Path(name)))
                    print(f"{case.name:32} {_rate(found[-1]) / 1e6:7.0f} MB/s", flush=True)
    return samples


async def _fetch(case: Case, weights: StoredWeights, folder: Path) -> Sample:
    with TemporaryDirectory(dir=folder) as destination:
        rate_bytes_per_s = case.nic_bits_per_s // 8
        job = weights.job(
            case.client,
            case.num_units,
            rate_bytes_per_s,
            Path(destination),
            is_warm=case.is_warm,
        )
        return await asyncio.wait_for(_in_a_process(job), TIMEOUT_S)


async def _in_a_process(job: Job) -> Sample:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.fetching.child"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        out, _ = await child.communicate(json.dumps(asdict(job)).encode())
    finally:
        if child.returncode is None:
            child.kill()
    return Sample(**json.loads(out))


def summarize(samples: Samples) -> dict[str, float]:
    rates = {case: median(map(_rate, found)) for case, found in samples.items()}
    cpu = {case: median(map(_cpu_s_per_gb, found)) for case, found in samples.items()}
    best_rate = max(rates[case] for case in OTHER)
    summary = {f"fetch_goodput_ratio_{c.name}": c.goodput_ratio(rates[c]) for c in CAPPED}
    summary |= {
        "fetch_cpu_s_per_gb": cpu[WARM],
        "fetch_ratio_to_best_client": rates[WARM] / best_rate,
        "fetch_cpu_s_per_gb_without_warm_pages": cpu[COLD],
        "fetch_ratio_to_best_client_without_warm_pages": rates[COLD] / best_rate,
        "warming_cpu_s_per_gb": median(s.warming_cpu_s / s.num_bytes * 1e9 for s in samples[WARM]),
    }
    summary |= {f"fetch_cpu_s_per_gb_{case.name}": cpu[case] for case in CAPPED}
    summary |= {f"cpu_s_per_gb_{case.client}": cpu[case] for case in OTHER}
    summary |= {f"mb_per_s_{case.client}": rates[case] / 1e6 for case in (WARM, *OTHER)}
    return summary


def draw(summary: Mapping[str, float]) -> None:
    names = (OURS, *OTHERS)
    cpu = [summary["fetch_cpu_s_per_gb"], *(summary[f"cpu_s_per_gb_{name}"] for name in OTHERS)]
    goodput = [summary[f"fetch_goodput_ratio_{case.name}"] for case in CAPPED]
    panels = (
        Bars("Share of the network card's cap", "", ("400 Mbit", "4 Gbit"), {OURS: goodput}),
        Bars("No cap, loopback", "MB/s", names, {"": [summary[f"mb_per_s_{n}"] for n in names]}),
        Bars("CPU time of the client", "s/GB", names, {"": cpu}),
    )
    draw_bars("fetch", panels)


def _rate(sample: Sample) -> float:
    return sample.num_bytes / sample.wall_s


def _cpu_s_per_gb(sample: Sample) -> float:
    return sample.cpu_s / sample.num_bytes * 1e9


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else NUM_REPEATS
    samples = asyncio.run(measure(repeats))
    summary = summarize(samples)
    print_summary(summary)
    write_report(
        "fetch",
        summary=summary,
        samples={case.name: [asdict(s) for s in found] for case, found in samples.items()},
        seeds={"weights": "units of random bytes, seeds 0 to the number of layers"},
        packages=PACKAGES,
        model={"num_units": NUM_LAYERS + 1, "unit": f"F32, {WIDTH} x {WIDTH}"},
        notes="hydraserve hashes every chunk (BLAKE3); the other clients verify nothing",
    )
    draw(summary)


if __name__ == "__main__":
    main()
