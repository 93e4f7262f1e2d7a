"""Whatever a source holds, an import ends in a model or in a refusal that has a cause."""

import asyncio
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.tenants import OPERATOR_TENANT
from libs.common.testing.objectstore import MemoryObjectStore
from services.fetcher.errors import ImportRefused
from services.fetcher.fetching.governor import NicGovernor
from services.fetcher.fetching.transfer import RetryPolicy
from services.fetcher.imports.gguf_conversion import ConversionLimits
from services.fetcher.imports.importer import Importer, ImportSettings
from services.fetcher.imports.upload import Uploader
from tests.unit.fetcher.imports.checkpoints import CONFIG, TinyCheckpoint

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def import_from(root: Path) -> str:
    """`imported`, or the code of the refusal; anything else raises."""
    store = MemoryObjectStore()
    uploader = Uploader(store, store, NicGovernor(0), RetryPolicy())
    limits = ConversionLimits(1 << 30, 10)
    importer = Importer(uploader, ImportSettings((root,), root / "scratch", limits))
    try:
        asyncio.run(
            importer.run(
                root / "tiny", tenant=OPERATOR_TENANT, is_public=True, report=lambda _progress: None
            )
        )
    except ImportRefused as exc:
        assert exc.code and str(exc)
        return exc.code
    return "imported"


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(CONFIG)), ODD, min_size=1, max_size=3))
def test_an_odd_config_is_imported_or_refused(changes: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = TinyCheckpoint()
        checkpoint.config.update(changes)
        checkpoint.write(Path(folder) / "tiny")

        import_from(Path(folder))


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
)
def test_flipped_bytes_are_imported_or_refused(tmp_path: Path, name: str) -> None:
    chance = random.Random(name)
    TinyCheckpoint().write(tmp_path / "tiny")
    path = tmp_path / "tiny" / name
    whole = path.read_bytes()
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(min(len(data), 2500))] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(data))

        import_from(tmp_path)


def test_a_file_cut_anywhere_in_its_header_is_refused(tmp_path: Path) -> None:
    TinyCheckpoint().write(tmp_path / "tiny")
    path = tmp_path / "tiny" / "model.safetensors"
    whole = path.read_bytes()
    for size in range(0, 2000, 37):
        path.write_bytes(whole[:size])

        assert import_from(tmp_path) == "bad_safetensors"


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=8), ODD, max_size=4))
def test_an_odd_weight_map_is_imported_or_refused(weight_map: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = TinyCheckpoint().write(Path(folder) / "tiny", num_shards=2)
        index = source / "model.safetensors.index.json"
        honest = json.loads(index.read_text())["weight_map"]
        index.write_text(json.dumps({"weight_map": honest | weight_map}))

        assert import_from(Path(folder)) in (
            "imported",
            "bad_index",
            "path_outside_source",
            "source_missing",
            "source_unreadable",
            "bad_json",
        )
