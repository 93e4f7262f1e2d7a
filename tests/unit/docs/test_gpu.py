"""The page on GPUs says of everything that is special to CUDA what was run where.

That the files and tests which it names exist, `test_links.py` says.
"""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "gpu.md").read_text()
FOLDERS = ("services/worker/runtime/cuda", "services/worker/agent/devices")
NOTHING_TO_RUN = ("device.py",)  # values
MODULES = [
    str(path.relative_to(ROOT))
    for folder in FOLDERS
    for path in sorted((ROOT / folder).glob("*.py"))
    if path.name not in ("__init__.py", *NOTHING_TO_RUN)
]


@pytest.mark.parametrize("module", MODULES)
def test_the_page_says_what_was_run_of_each_module(module: str) -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and f"`{module}`" in line]
    assert len(rows) == 1, "one row of the table"
