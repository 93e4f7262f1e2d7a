"""One measurement in a process of its own: a job as JSON in, a sample as JSON out."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict

from benchmarks.fetching import clients, hydra
from benchmarks.fetching.workload import Job, Sample

CLIENTS: dict[str, Callable[[Job], Sample]] = {
    "hydraserve": hydra.fetch,
    "minio": clients.fetch_with_minio,
    "obstore": clients.fetch_with_obstore,
    "runai-model-streamer": clients.fetch_with_streamer,
}


def main() -> None:
    fields = json.load(sys.stdin)
    job = Job(**{**fields, "unit_digests": tuple(fields["unit_digests"])})
    print(json.dumps(asdict(CLIENTS[job.client](job))))


if __name__ == "__main__":
    main()
