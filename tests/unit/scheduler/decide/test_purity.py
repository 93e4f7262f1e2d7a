"""What decides holds no session, no socket and no clock: it imports nothing that could give it one.

The import contract in pyproject.toml forbids the project's own adapters; this forbids those of the
standard library.
"""

import ast
import sys
from pathlib import Path

import pytest

POLICY = Path(__file__).parents[4] / "services" / "scheduler" / "policy"
IMPURE = {
    "asyncio",
    "datetime",
    "logging",
    "os",
    "pathlib",
    "queue",
    "random",
    "secrets",
    "select",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "uuid",
}
VALUES_ONLY = {"immutables", "numpy"}  # libraries without I/O, clock or chance
MODULES = sorted(POLICY.rglob("*.py"))


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(POLICY)))
def test_a_module_of_the_policy_imports_values_only(path: Path) -> None:
    for name in _imported(path):
        root = name.partition(".")[0]
        is_own = name.startswith(("services.scheduler.policy", "libs.common"))
        is_pure = root in sys.stdlib_module_names and root not in IMPURE
        assert is_own or is_pure or root in VALUES_ONLY, f"{path.name} imports {name}"
