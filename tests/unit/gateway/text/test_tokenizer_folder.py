"""Tokenizers' files on disk: within a number of bytes, and never wrong ones."""

import os
from pathlib import Path

from blake3 import blake3

from services.gateway.text.tokenizer_folder import TokenizerFolder

FILE_BYTES = 1000


def content(i: int) -> bytes:
    return bytes([i]) * FILE_BYTES


def digest(i: int) -> str:
    return blake3(content(i)).hexdigest()


def test_those_read_longest_ago_make_room_for_new_ones(tmp_path: Path) -> None:
    folder = TokenizerFolder(tmp_path, 3 * FILE_BYTES)
    for i in range(3):
        folder.write(digest(i), content(i))
        os.utime(tmp_path / digest(i), (i, i))
    folder.read(digest(0))

    folder.write(digest(3), content(3))

    assert [folder.read(digest(i)) for i in range(4)] == [
        content(0), None, content(2), content(3),
    ]  # fmt: skip


def test_what_was_half_written_goes_with_the_others(tmp_path: Path) -> None:
    folder = TokenizerFolder(tmp_path, FILE_BYTES)
    (tmp_path / "part-of-a-process-that-died").write_bytes(content(1))

    folder.write(digest(2), content(2))

    assert os.listdir(tmp_path) == [digest(2)]


def test_one_that_is_larger_than_the_folder_may_be_is_kept_alone(tmp_path: Path) -> None:
    folder = TokenizerFolder(tmp_path, 10)
    folder.write(digest(1), content(1))
    folder.write(digest(2), content(2))

    assert (folder.read(digest(1)), folder.read(digest(2))) == (None, content(2))


def test_what_does_not_match_its_name_counts_as_absent(tmp_path: Path) -> None:
    folder = TokenizerFolder(tmp_path, FILE_BYTES)
    folder.write(digest(1), content(2))

    assert folder.read(digest(1)) is None
