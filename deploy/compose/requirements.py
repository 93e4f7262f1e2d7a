"""What one image has to install: the project's own dependencies and those of some extras.

    python requirements.py pyproject.toml gateway > requirements.txt

An extra may name others of the project (`hydraserve[database]`); they are resolved here, so that an
image's dependencies are a layer that no change of code makes anew. Standard library only.
"""

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_OWN_EXTRA = re.compile(r"hydraserve\[(?P<names>[\w,\s-]+)\]")


def requirements(project: Mapping[str, object], extras: Sequence[str]) -> list[str]:
    """Of the `project` table, each once, in order. Raises KeyError for an extra it lacks."""
    dependencies, optional = project["dependencies"], project["optional-dependencies"]
    assert isinstance(dependencies, list) and isinstance(optional, dict)
    found = [*dependencies, *(line for name in extras for line in _expanded(name, optional))]
    return list(dict.fromkeys(found))


def _expanded(extra: str, optional: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for line in optional[extra]:
        if own := _OWN_EXTRA.fullmatch(line):
            for name in own["names"].split(","):
                yield from _expanded(name.strip(), optional)
        else:
            yield line


def main(arguments: Sequence[str]) -> None:
    project = tomllib.loads(Path(arguments[0]).read_text())["project"]
    print("\n".join(requirements(project, arguments[1:])))


if __name__ == "__main__":
    main(sys.argv[1:])
