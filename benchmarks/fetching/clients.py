"""Other clients of object stores. None of them notices a flipped byte, and none hashes.

minio and obstore read 8 MiB ranges with four threads into files in memory, as the fetcher does;
the streamer keeps its own buffers and its own number of threads.
"""

import mmap
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.fetching.workload import Job, Sample
from libs.common.weights.manifest import CHUNK_SIZE_BYTES, unit_key

NUM_THREADS = 4


@dataclass(frozen=True)
class _Range:
    key: str
    start: int
    view: memoryview  # where it belongs


def fetch_with_minio(job: Job) -> Sample:
    import minio
    import urllib3

    address = job.endpoint.removeprefix("http://")
    pool = urllib3.PoolManager(maxsize=NUM_THREADS)
    client = minio.Minio(
        address,
        access_key=job.access_key,
        secret_key=job.secret_key,
        region=job.region,
        secure=False,
        http_client=pool,
    )

    def read(wanted: _Range) -> None:
        size = len(wanted.view)
        answer = client.get_object(job.bucket, wanted.key, offset=wanted.start, length=size)
        position = 0
        while position < size:
            position += answer.readinto(wanted.view[position:])  # type: ignore[arg-type]
        answer.release_conn()

    return _timed(job, partial(_in_threads, read))


def fetch_with_obstore(job: Job) -> Sample:
    from obstore.store import S3Store

    store = S3Store(
        job.bucket,
        endpoint=job.endpoint,
        region=job.region,
        access_key_id=job.access_key,
        secret_access_key=job.secret_key,
        client_options={"allow_http": True},
    )

    def read(wanted: _Range) -> None:
        size = len(wanted.view)
        wanted.view[:] = store.get_range(wanted.key, start=wanted.start, length=size)

    return _timed(job, partial(_in_threads, read))


def fetch_with_streamer(job: Job) -> Sample:
    os.environ.update(
        AWS_ENDPOINT_URL=job.endpoint,
        AWS_ACCESS_KEY_ID=job.access_key,
        AWS_SECRET_ACCESS_KEY=job.secret_key,
        AWS_DEFAULT_REGION=job.region,
        AWS_EC2_METADATA_DISABLED="true",
        RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING="0",
    )
    from runai_model_streamer import SafetensorsStreamer

    def stream(job: Job) -> None:
        paths = [f"s3://{job.bucket}/{unit_key(digest)}" for digest in job.unit_digests]
        with SafetensorsStreamer() as streamer:
            streamer.stream_files(paths)
            kept = list(streamer.get_tensors())
        assert len(kept) == len(paths)

    return _timed(job, stream)


def _timed(job: Job, fetch: Callable[[Job], None]) -> Sample:
    fetch(job.warm_up)
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    fetch(job)
    wall_s, cpu_s = time.perf_counter() - started_s, time.process_time() - started_cpu_s
    return Sample(wall_s, cpu_s, job.size_bytes)


def _in_threads(read: Callable[[_Range], None], job: Job) -> None:
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        list(pool.map(read, _ranges(job)))


def _ranges(job: Job) -> Iterator[_Range]:
    size_bytes = job.size_bytes // len(job.unit_digests)
    for digest in job.unit_digests:
        view = _mapped(Path(job.folder) / digest, size_bytes)
        for start in range(0, size_bytes, CHUNK_SIZE_BYTES):
            yield _Range(unit_key(digest), start, view[start : start + CHUNK_SIZE_BYTES])


def _mapped(path: Path, size_bytes: int) -> memoryview:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
        return memoryview(mmap.mmap(descriptor, size_bytes))
    finally:
        os.close(descriptor)
