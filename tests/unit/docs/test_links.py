"""Every file and every test that the documentation names is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
# Made when something runs.
GENERATED = ("benchmarks/out/", "deploy/compose/.env", "deploy/compose/secrets/")
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
# In backquotes: a folder or a file by its path from the root, perhaps with a test in it.
_PATH = re.compile(r"`((?:services|libs|deploy|tests|benchmarks|docs)/[\w./-]+)(?:::(\w+))?`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_documents_links_lead_somewhere(document: Path) -> None:
    links = [link for link in _LINK.findall(document.read_text()) if "://" not in link]

    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_files_and_tests_that_a_document_names_are_there(document: Path) -> None:
    named = _PATH.findall(document.read_text())

    assert [f"{path}::{test}" for path, test in named if not _is_there(path, test)] == []


def test_what_is_named_is_found() -> None:
    assert _LINK.findall("see [the table](../a.py#top) and [x](https://x.y/z)") == [
        "../a.py",
        "https://x.y/z",
    ]
    assert _PATH.findall("`libs/common`, `tests/a.py::test_b`, `a/b`") == [
        ("libs/common", ""),
        ("tests/a.py", "test_b"),
    ]
    assert _is_there("tests/unit/docs/test_links.py", "test_what_is_named_is_found")
    assert not _is_there("tests/unit/docs/test_links.py", "test_what_is_not_there")
    assert not _is_there("tests/unit/docs/nothing.py", "")


def _is_there(path: str, test: str) -> bool:
    if path.startswith(GENERATED):
        return True
    return (ROOT / path).exists() and (not test or f"def {test}(" in (ROOT / path).read_text())
