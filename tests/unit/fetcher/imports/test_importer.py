import asyncio
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3
from safetensors.numpy import load

from libs.common.weights.manifest import UnitKind
from libs.common.weights.manifest_json import decode_manifest
from libs.common.weights.safetensors import PADDING_PREFIX
from services.fetcher.errors import ImportRefused
from services.fetcher.fetching.transfer import RetryPolicy
from services.fetcher.imports.importer import (
    ImportProgress,
)
from tests.unit.common.tokenizers.files import replace, sequence
from tests.unit.fetcher.imports.checkpoints import CONFIG, TinyCheckpoint, llama_shapes
from tests.unit.fetcher.imports.importworld import ImportWorld
from tests.unit.fetcher.worlds import eventually

GROWS = replace("a", "a" * 100)


@pytest.fixture
def world(tmp_path: Path) -> ImportWorld:
    return ImportWorld(tmp_path)


@pytest.mark.parametrize("num_shards", [1, 3])
async def test_every_tensor_arrives_unchanged_in_its_unit(
    world: ImportWorld, num_shards: int
) -> None:
    checkpoint = TinyCheckpoint()
    checkpoint.write(world.source, num_shards=num_shards)

    manifest = (await world.run()).manifest

    stored = {}
    for unit in manifest.units:
        data = await world.store.get(unit.key, max_bytes=1 << 20)
        assert blake3(data).hexdigest() == unit.digest
        for tensor in unit.tensors:
            stored[tensor.name] = data[tensor.offset : tensor.end]
        names = {name for name in load(data) if not name.startswith(PADDING_PREFIX)}
        assert names == {tensor.name for tensor in unit.tensors}
    assert stored == {spec.name: checkpoint.tensor_bytes(spec) for spec in checkpoint.specs()}


async def test_the_manifest_says_what_serving_needs(world: ImportWorld) -> None:
    TinyCheckpoint(generation_config={"eos_token_id": [7, 2]}).write(world.source)

    imported = await world.run()

    data = await world.store.get(f"manifests/{imported.manifest_digest}", max_bytes=1 << 20)
    manifest = decode_manifest(data)
    assert manifest == imported.manifest
    assert [unit.kind for unit in manifest.units] == [
        UnitKind.EMBEDDING,
        UnitKind.LAYER,
        UnitKind.LAYER,
        UnitKind.FINAL_NORM,
    ]
    assert json.loads(manifest.config_json) == CONFIG
    assert manifest.eos_token_ids == (7, 2)
    assert manifest.bos_token_id == 1
    assert manifest.max_context_tokens == 256
    assert manifest.kv_bytes_per_token == 2 * 2 * 2 * 16 * 4
    assert (manifest.dtype, manifest.vocab_size, manifest.num_layers) == ("F32", 100, 2)


async def test_query_key_value_and_gate_up_lie_side_by_side(world: ImportWorld) -> None:
    TinyCheckpoint().write(world.source)

    layer = (await world.run()).manifest.units[1]

    short = {tensor.name.split(".")[-2]: tensor for tensor in layer.tensors}
    assert short["q_proj"].end == short["k_proj"].offset
    assert short["k_proj"].end == short["v_proj"].offset
    assert short["gate_proj"].end == short["up_proj"].offset
    assert all(tensor.offset % 64 == 0 for tensor in layer.tensors)


async def test_an_untied_head_is_a_unit_of_its_own(world: ImportWorld) -> None:
    checkpoint = TinyCheckpoint(shapes=llama_shapes(is_tied=False))
    checkpoint.config["tie_word_embeddings"] = False
    checkpoint.write(world.source)

    assert (await world.run()).manifest.units[-1].kind is UnitKind.LM_HEAD


async def test_a_saved_head_that_is_tied_is_left_out(world: ImportWorld) -> None:
    TinyCheckpoint(shapes=llama_shapes(is_tied=False)).write(world.source)

    assert (await world.run()).manifest.units[-1].kind is UnitKind.FINAL_NORM


async def test_old_rotary_buffers_are_ignored(world: ImportWorld) -> None:
    shapes = llama_shapes() | {"model.layers.0.self_attn.rotary_emb.inv_freq": (8,)}
    TinyCheckpoint(dtype="BF16", shapes=shapes, dtypes={list(shapes)[-1]: "F32"}).write(
        world.source
    )

    assert (await world.run()).manifest.dtype == "BF16"


async def test_tokenizer_and_chat_template_are_stored_as_objects(world: ImportWorld) -> None:
    TinyCheckpoint().write(world.source)

    manifest = (await world.run()).manifest

    files = {
        file.name: await world.store.get(file.key, max_bytes=file.size_bytes)
        for file in manifest.tokenizer_files
    }
    assert files["tokenizer.json"] == b'{"model": {}}'
    assert files["chat_template.jinja"] == b"{{ messages }}"
    assert "tokenizer_config.json" in files


async def test_the_template_file_goes_before_the_tokenizer_config(world: ImportWorld) -> None:
    TinyCheckpoint(template="from the file").write(world.source)

    file = (await world.run()).manifest.tokenizer_file("chat_template.jinja")

    assert file is not None
    assert await world.store.get(file.key, max_bytes=100) == b"from the file"


async def test_the_default_of_several_templates_is_taken(world: ImportWorld) -> None:
    templates = [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]
    TinyCheckpoint(tokenizer_config={"chat_template": templates}).write(world.source)

    file = (await world.run()).manifest.tokenizer_file("chat_template.jinja")

    assert file is not None
    assert await world.store.get(file.key, max_bytes=100) == b"d"


async def test_importing_twice_sends_nothing_the_second_time(world: ImportWorld) -> None:
    TinyCheckpoint().write(world.source)
    first = await world.run()
    num_puts = world.store.num_puts

    second = await world.run()

    assert second.manifest_digest == first.manifest_digest
    assert second.num_units_sent == 0
    assert world.store.num_puts == num_puts


async def test_models_share_equal_units(world: ImportWorld) -> None:
    TinyCheckpoint().write(world.source)
    await world.run()
    longer = TinyCheckpoint(shapes=llama_shapes(3))
    longer.config["num_hidden_layers"] = 3
    longer.write(world.root / "longer")

    imported = await world.run(world.root / "longer")

    assert imported.num_units_sent == 1  # the third layer


async def test_equal_units_of_two_owners_are_stored_cached_and_leased_apart(
    world: ImportWorld,
) -> None:
    TinyCheckpoint().write(world.source)
    sources = {tenant: world.root / tenant / "tiny" for tenant in ("ann", "bob")}
    for source in sources.values():
        TinyCheckpoint().write(source)
    imported = [
        await world.run(source, tenant=tenant, is_public=False)
        for tenant, source in sources.items()
    ]
    imported.append(await world.run())

    keys = [{unit.key for unit in one.manifest.units} for one in imported]
    assert len(set.union(*keys)) == 3 * len(keys[0])
    assert len({one.manifest_digest for one in imported}) == 3
    again = await world.run(sources["ann"], tenant="ann", is_public=False)
    assert again.num_units_sent == 0


async def test_who_is_no_operator_imports_from_a_folder_of_its_own(world: ImportWorld) -> None:
    own = TinyCheckpoint().write(world.root / "ann" / "tiny")

    with pytest.raises(ImportRefused, match="does not lie beneath") as caught:
        await world.run(own, tenant="bob")

    assert caught.value.code == "source_outside_roots"
    assert str(world.root / "bob") in str(caught.value)
    assert (await world.run(own, tenant="ann")).num_units_sent > 0


async def test_progress_counts_up_to_the_total(world: ImportWorld) -> None:
    TinyCheckpoint().write(world.source)

    manifest = (await world.run()).manifest

    done = [progress.bytes_done for progress in world.progress]
    assert done == sorted(done)
    assert world.progress[-1] == ImportProgress(manifest.total_bytes, manifest.total_bytes)


async def test_an_outage_of_the_store_is_waited_out(world: ImportWorld) -> None:
    TinyCheckpoint().write(world.source)
    world.retry = RetryPolicy(patience_s=20, first_delay_s=0.001, max_delay_s=0.01)
    world.store.is_down = True
    task = asyncio.create_task(world.run())
    await eventually(lambda: bool(world.progress))

    world.store.is_down = False

    assert (await task).num_units_sent == 4


async def test_an_outage_without_end_fails_the_import_with_a_cause(world: ImportWorld) -> None:
    TinyCheckpoint().write(world.source)
    world.store.is_down = True

    refusal = await world.refused()

    assert refusal.code == "store_unreachable"
    assert "register the model again" in str(refusal)


async def test_a_store_that_refuses_is_not_asked_again(world: ImportWorld) -> None:
    TinyCheckpoint().write(world.source)
    world.store.is_forbidden = True

    assert (await world.refused()).code == "store_refused"


def edit_config(**changes: object) -> Callable[[TinyCheckpoint], None]:
    return lambda checkpoint: checkpoint.config.update(changes)


@pytest.mark.parametrize(
    ("spoil", "code", "message"),
    [
        pytest.param(
            edit_config(architectures=["EvilForCausalLM"]),
            "unknown_architecture",
            "EvilForCausalLM",
            id="an unknown architecture",
        ),
        pytest.param(edit_config(architectures=[]), "bad_config", "empty", id="no architecture"),
        pytest.param(
            edit_config(hidden_size=1 << 40), "bad_config", "hidden_size", id="an absurd size"
        ),
        pytest.param(
            edit_config(num_hidden_layers=10**9), "bad_config", "num_hidden", id="absurd depth"
        ),
        pytest.param(edit_config(vocab_size=True), "bad_config", "vocab_size", id="a bool"),
        pytest.param(
            edit_config(num_key_value_heads=3), "bad_config", "divisor", id="heads do not divide"
        ),
        pytest.param(edit_config(hidden_act="gelu"), "bad_config", "silu", id="another activation"),
        pytest.param(
            edit_config(quantization_config={"bits": 4}),
            "quantized",
            "bfloat16",
            id="quantized",
        ),
        pytest.param(
            edit_config(eos_token_id=100), "bad_config", "eos_token_id", id="eos off the end"
        ),
        pytest.param(
            lambda c: c.shapes.pop("model.norm.weight"),
            "tensor_missing",
            "model.norm.weight is missing",
            id="a tensor is missing",
        ),
        pytest.param(
            lambda c: c.shapes.update(extra=(1,)),
            "tensor_unexpected",
            "extra",
            id="a tensor too many",
        ),
        pytest.param(
            lambda c: c.shapes.update({"model.norm.weight": (63,)}),
            "shape_mismatch",
            r"\[63\].*\[64\]",
            id="another shape",
        ),
        pytest.param(
            lambda c: c.dtypes.update({"model.norm.weight": "F16"}),
            "dtype_mismatch",
            "F16",
            id="mixed dtypes",
        ),
        pytest.param(lambda c: setattr(c, "dtype", "I64"), "bad_dtype", "I64", id="integers"),
        pytest.param(
            lambda c: setattr(c, "tokenizer", None), "tokenizer_missing", "fast", id="no tokenizer"
        ),
        pytest.param(
            lambda c: setattr(c, "tokenizer", "{"), "bad_json", "tokenizer", id="broken tokenizer"
        ),
        pytest.param(
            lambda c: setattr(c, "tokenizer", json.dumps({"normalizer": sequence(GROWS, GROWS)})),
            "bad_tokenizer",
            "10000 characters of one",
            id="a tokenizer that makes millions of characters of a few",
        ),
        pytest.param(
            lambda c: c.tokenizer_config.update(chat_template=5),
            "bad_chat_template",
            "chat_template",
            id="a template that is a number",
        ),
    ],
)
async def test_a_checkpoint_that_cannot_be_is_refused_at_the_door(
    world: ImportWorld, spoil: Callable[[TinyCheckpoint], object], code: str, message: str
) -> None:
    checkpoint = TinyCheckpoint()
    spoil(checkpoint)
    checkpoint.write(world.source)

    refusal = await world.refused()

    assert refusal.code == code
    assert re.search(message, str(refusal))


async def test_a_damaged_header_is_refused(world: ImportWorld) -> None:
    TinyCheckpoint().write(world.source)
    weights = world.source / "model.safetensors"
    weights.write_bytes(b"\xff" * 8 + weights.read_bytes()[8:])

    refusal = await world.refused()

    assert refusal.code == "bad_safetensors"
    assert "model.safetensors is damaged" in str(refusal)


@pytest.mark.parametrize("data", [b"", b"1234567", b"\0" * 8, b"\x02" + b"\0" * 7 + b"{}"])
async def test_weights_that_are_no_safetensors_are_refused(world: ImportWorld, data: bytes) -> None:
    TinyCheckpoint().write(world.source)
    (world.source / "model.safetensors").write_bytes(data)

    assert (await world.refused()).code in ("bad_safetensors", "bad_dtype")


@pytest.mark.parametrize("cut", [1, 1000])
async def test_truncated_weights_are_refused(world: ImportWorld, cut: int) -> None:
    TinyCheckpoint().write(world.source)
    weights = world.source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-cut])

    assert (await world.refused()).code == "bad_safetensors"


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "sub/file", "..", "", "x" * 300, "nul\0"], ids=ascii
)
async def test_a_weight_map_that_points_outside_is_refused(world: ImportWorld, name: str) -> None:
    TinyCheckpoint().write(world.source, num_shards=2)
    TinyCheckpoint().write(world.root / "secret")
    index = world.source / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": weight_map | {"model.norm.weight": name}}))

    assert (await world.refused()).code in ("path_outside_source", "source_unreadable")


async def test_an_index_that_disagrees_with_its_files_is_refused(world: ImportWorld) -> None:
    TinyCheckpoint().write(world.source, num_shards=2)
    index = world.source / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    del weight_map["model.norm.weight"]
    index.write_text(json.dumps({"weight_map": weight_map}))

    refusal = await world.refused()

    assert refusal.code == "bad_index"
    assert "model.norm.weight is in only one" in str(refusal)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
async def test_a_file_that_is_a_link_is_refused(
    world: ImportWorld, tmp_path: Path, name: str
) -> None:
    TinyCheckpoint().write(world.source)
    outside = tmp_path / "outside"
    (world.source / name).rename(outside)
    (world.source / name).symlink_to(outside)

    assert (await world.refused()).code == "source_is_link"


async def test_a_folder_that_is_a_link_is_refused(world: ImportWorld, tmp_path: Path) -> None:
    TinyCheckpoint().write(tmp_path / "outside")
    world.source.symlink_to(tmp_path / "outside")

    assert (await world.refused()).code in ("source_is_link", "source_not_folder")


async def test_a_fifo_does_not_hang_the_import(world: ImportWorld) -> None:
    TinyCheckpoint().write(world.source)
    (world.source / "config.json").unlink()
    os.mkfifo(world.source / "config.json")

    assert (await world.refused()).code == "not_a_file"


@pytest.mark.parametrize(
    ("source", "code"),
    [
        pytest.param("/etc", "source_outside_roots", id="elsewhere"),
        pytest.param("{root}/../secret", "source_outside_roots", id="up and out"),
        pytest.param("{root}/\0", "source_outside_roots", id="a NUL byte"),
        pytest.param("tiny", "source_outside_roots", id="relative"),
        pytest.param("{root}-other/tiny", "source_outside_roots", id="a root's namesake"),
        pytest.param("{root}/nowhere", "source_missing", id="missing"),
        pytest.param("{root}/tiny/config.json", "source_not_folder", id="a file"),
        pytest.param("{root}/no.gguf", "source_missing", id="a missing GGUF"),
        pytest.param("{root}/../x.gguf", "source_outside_roots", id="a GGUF outside"),
    ],
)
async def test_a_source_that_may_not_be_read_is_refused(
    world: ImportWorld, source: str, code: str
) -> None:
    TinyCheckpoint().write(world.source)

    assert (await world.refused(Path(source.format(root=world.root)))).code == code


async def test_a_source_that_shrinks_meanwhile_is_refused_and_stores_no_manifest(
    world: ImportWorld,
) -> None:
    TinyCheckpoint().write(world.source)
    weights = world.source / "model.safetensors"

    world.report = lambda _progress: os.truncate(weights, 20_000)
    with pytest.raises(ImportRefused, match="became shorter"):
        await world.run()

    assert await world.store.list_keys("manifests/") == ()


async def test_nothing_is_left_in_the_scratch_folder(world: ImportWorld) -> None:
    TinyCheckpoint().write(world.source)

    await world.run()

    assert os.listdir(world.scratch) == []
