"""The shape of the source tree: small folders, and imports that run one way."""

from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("services", "libs", "deploy")
MAX_MODULES = 20  # of one folder: what one person can keep in mind
MIGRATIONS = "libs/common/records/migrations/versions"  # a history: it only grows, nobody reads it


@pytest.mark.parametrize("package", [*PACKAGES, "benchmarks", "tests"])
def test_no_folder_has_more_modules_than_one_can_keep_in_mind(package: str) -> None:
    modules = (path for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py")
    counts = Counter(str(path.parent.relative_to(ROOT)) for path in modules)
    del counts[MIGRATIONS]

    assert {folder: n for folder, n in counts.items() if n > MAX_MODULES} == {}


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}

    assert _circle(imports) == []


def test_a_circle_is_found() -> None:
    assert set(_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}


def _circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules each of which imports the next, the last one the first; empty when there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as exc:
        circle: list[str] = exc.args[1]
        return circle[::-1]
    return []
