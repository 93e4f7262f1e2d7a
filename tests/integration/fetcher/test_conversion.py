"""A GGUF file becomes a model, or a clear refusal, in a subprocess with limits."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from libs.common.tenants import OPERATOR_TENANT
from libs.common.testing.objectstore import MemoryObjectStore
from libs.common.weights.manifest import UnitKind
from services.fetcher.errors import ImportRefused
from services.fetcher.fetching.governor import NicGovernor
from services.fetcher.fetching.transfer import RetryPolicy
from services.fetcher.imports import gguf_conversion as conversion
from services.fetcher.imports.gguf_conversion import ConversionLimits
from services.fetcher.imports.importer import ImportedModel, Importer, ImportSettings
from services.fetcher.imports.upload import Uploader
from tests.unit.fetcher.worlds import eventually

GENEROUS = ConversionLimits(memory_bytes=16 << 30, timeout_s=120)
HIDDEN, WIDE, VOCABULARY = 64, 96, 260


def write_gguf(path: Path, architecture: str = "llama") -> None:
    """One layer, by default of a Llama, with a byte-level tokenizer."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDE)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(16)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "<s>", "</s>", "b", "ab", *map(str, range(5, VOCABULARY))])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, shape in tensors().items():
        writer.add_tensor(name, np.full(shape, 0.5, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors() -> dict[str, tuple[int, ...]]:
    block = "blk.0."
    return {
        "token_embd.weight": (VOCABULARY, HIDDEN),
        "output_norm.weight": (HIDDEN,),
        block + "attn_norm.weight": (HIDDEN,),
        block + "attn_q.weight": (HIDDEN, HIDDEN),
        block + "attn_k.weight": (HIDDEN // 2, HIDDEN),
        block + "attn_v.weight": (HIDDEN // 2, HIDDEN),
        block + "attn_output.weight": (HIDDEN, HIDDEN),
        block + "ffn_norm.weight": (HIDDEN,),
        block + "ffn_gate.weight": (WIDE, HIDDEN),
        block + "ffn_up.weight": (WIDE, HIDDEN),
        block + "ffn_down.weight": (HIDDEN, WIDE),
    }


async def test_a_file_that_changes_while_it_is_converted_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    write_gguf(source)
    running = asyncio.create_task(imported(tmp_path, source))
    await eventually(lambda: any((tmp_path / "scratch").glob("convert-*/source")))

    os.utime(source)

    with pytest.raises(ImportRefused, match=r"tiny\.gguf was changed") as caught:
        await running
    assert caught.value.code == "source_changed"


async def imported(
    folder: Path, source: Path, limits: ConversionLimits = GENEROUS
) -> ImportedModel:
    store = MemoryObjectStore()
    uploader = Uploader(store, store, NicGovernor(0), RetryPolicy())
    settings = ImportSettings((folder,), folder / "scratch", limits)
    return await Importer(uploader, settings).run(
        source, tenant=OPERATOR_TENANT, is_public=True, report=lambda _progress: None
    )


async def test_a_gguf_file_becomes_a_model_and_leaves_nothing_behind(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")

    manifest = (await imported(tmp_path, tmp_path / "tiny.gguf")).manifest

    kinds = [unit.kind for unit in manifest.units]
    assert kinds == [UnitKind.EMBEDDING, UnitKind.LAYER, UnitKind.FINAL_NORM]
    assert manifest.dtype == "BF16"
    assert manifest.tokenizer_file("tokenizer.json") is not None
    assert os.listdir(tmp_path / "scratch") == []


def spoil_magic(data: bytes) -> bytes:
    return b"JUNK" + data[4:]


@pytest.mark.parametrize(
    ("spoil", "limits", "code"),
    [
        pytest.param(spoil_magic, GENEROUS, "conversion_failed", id="no GGUF"),
        pytest.param(
            lambda data: data[: len(data) // 2], GENEROUS, "conversion_failed", id="cut in half"
        ),
        pytest.param(
            bytes, ConversionLimits(256 << 20, 60), "conversion_failed", id="too little memory"
        ),
        pytest.param(
            bytes, ConversionLimits(16 << 30, 0.05), "conversion_timeout", id="too little time"
        ),
    ],
)
async def test_a_file_that_cannot_be_converted_is_refused_with_a_cause(
    tmp_path: Path, spoil: Callable[[bytes], bytes], limits: ConversionLimits, code: str
) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    path.write_bytes(spoil(path.read_bytes()))

    with pytest.raises(ImportRefused) as caught:
        await imported(tmp_path, path, limits)

    assert caught.value.code == code
    assert len(str(caught.value)) > 40
    assert os.listdir(tmp_path / "scratch") == []


async def test_a_converted_model_that_no_engine_runs_is_refused_by_its_files_own_name(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, "stablelm")

    with pytest.raises(
        ImportRefused, match=r"^the metadata of tiny\.gguf names .*StableLm"
    ) as caught:
        await imported(tmp_path, path, GENEROUS)

    assert caught.value.code == "unknown_architecture"
    assert "config.json" not in str(caught.value)


def test_the_subprocess_inherits_no_variable_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_S3_SECRET_KEY_FILE", "secret-path")

    environment = conversion._environment(tmp_path, GENEROUS)

    assert "secret-path" not in environment.values()
    assert set(environment) <= {
        "PATH",
        "HOME",
        "TMPDIR",
        "PYTHONPATH",
        "HF_HUB_OFFLINE",
        "HF_HOME",
        "OMP_NUM_THREADS",
        "LC_ALL",
    }


def test_what_a_killed_importer_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "convert-abc" / "model").mkdir(parents=True)
    (tmp_path / "other").mkdir()

    conversion.sweep(tmp_path)

    assert os.listdir(tmp_path) == ["other"]
