import asyncio
from pathlib import Path

from deploy.local.state.log_files import keep_small, rotate_logs
from tests.support.waiting import eventually


def test_a_large_file_is_emptied_under_its_writer_with_one_older_copy_beside_it(
    tmp_path: Path,
) -> None:
    log, small = tmp_path / "scheduler-0.log", tmp_path / "scheduler-0.jsonl"
    small.write_text("a span\n")
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old\n" * 10)
        rotate_logs(tmp_path, max_bytes=20)
        writer.write(b"new\n")

    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "scheduler-0.log.1").read_bytes() == b"old\n" * 10
    assert small.read_text() == "a span\n"
    assert len(list(tmp_path.iterdir())) == 3


def test_traces_are_rotated_again_and_again_and_copies_never(tmp_path: Path) -> None:
    traces = tmp_path / "gateway-gateway-0.jsonl"
    for number in range(3):
        traces.write_text(f"span {number}\n" * 10)
        rotate_logs(tmp_path, max_bytes=20)

    assert {path.name for path in tmp_path.iterdir()} == {traces.name, f"{traces.name}.1"}
    assert (tmp_path / f"{traces.name}.1").read_text() == "span 2\n" * 10


def test_one_file_that_cannot_be_rotated_keeps_no_other_from_it(tmp_path: Path) -> None:
    log, other = tmp_path / "a.log", tmp_path / "b.log"
    for path in (log, other):
        path.write_bytes(b"line\n" * 10)
    (tmp_path / "a.log.1").mkdir()  # nobody can write there

    rotate_logs(tmp_path, max_bytes=20)

    assert other.stat().st_size == 0


async def test_files_are_kept_small_while_their_writers_run(tmp_path: Path) -> None:
    log = tmp_path / "nats.log"
    keeping = asyncio.create_task(keep_small((tmp_path,), max_bytes=20, period_s=0.01))
    with log.open("ab", buffering=0) as writer:
        for _ in range(2):
            writer.write(b"line\n" * 10)
            await eventually(lambda: log.stat().st_size == 0, what="the rotation")
    keeping.cancel()
