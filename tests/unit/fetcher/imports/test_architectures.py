"""What the importer makes of a config.json: units, or a refusal that names the key."""

from collections.abc import Mapping
from math import prod
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.strict_json import JsonObject
from libs.common.tenants import OPERATOR_TENANT
from libs.common.testing.objectstore import MemoryObjectStore
from libs.common.weights.manifest import UnitKind
from libs.common.weights.manifest_json import decode_manifest
from services.fetcher.errors import ImportRefused
from services.fetcher.fetching.governor import NicGovernor
from services.fetcher.fetching.transfer import RetryPolicy
from services.fetcher.imports.architectures import ModelPlan, plan_model
from services.fetcher.imports.gguf_conversion import ConversionLimits
from services.fetcher.imports.importer import Importer, ImportSettings
from services.fetcher.imports.upload import Uploader
from tests.unit.fetcher.imports.checkpoints import TinyCheckpoint
from tests.unit.fetcher.published import PUBLISHED, Published, config_of

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 70),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.lists(st.sampled_from(["full_attention", "sliding_attention", 1]), max_size=3),
    st.dictionaries(st.sampled_from(["rope_type", "factor", "rope_theta", "x"]), st.integers()),
)


def plan(config: Mapping[str, object]) -> ModelPlan:
    return plan_model(JsonObject(config), "BF16")


def names_of(plan: ModelPlan, kind: UnitKind) -> list[str]:
    unit = next(unit for unit in plan.units if unit.kind is kind)
    return [tensor.name for tensor in unit.tensors]


@pytest.mark.parametrize("model", PUBLISHED, ids=lambda model: model.name)
def test_a_published_model_has_the_parameters_that_its_authors_count(model: Published) -> None:
    units = plan(model.config).units

    assert sum(prod(t.shape) for unit in units for t in unit.tensors) == model.num_parameters


@pytest.mark.parametrize("model", PUBLISHED, ids=lambda model: model.name)
def test_units_are_embedding_layers_final_norm_and_an_untied_head(model: Published) -> None:
    num_layers = model.config["num_hidden_layers"]
    assert isinstance(num_layers, int)

    units = plan(model.config).units

    layers = [unit.layer_index for unit in units if unit.kind is UnitKind.LAYER]
    assert layers == list(range(num_layers))
    ends = [UnitKind.EMBEDDING, UnitKind.FINAL_NORM, UnitKind.LM_HEAD]
    is_tied = model.config.get("tie_word_embeddings", True)
    expected = ends[:2] if is_tied else ends
    assert [unit.kind for unit in units if unit.kind is not UnitKind.LAYER] == expected


def test_learned_positions_and_projection_travel_with_the_embedding() -> None:
    planned = plan(config_of("opt-350m"))

    assert names_of(planned, UnitKind.EMBEDDING) == [
        "model.decoder.embed_tokens.weight",
        "model.decoder.embed_positions.weight",
        "model.decoder.project_in.weight",
    ]
    assert names_of(planned, UnitKind.FINAL_NORM) == ["model.decoder.project_out.weight"]


async def test_a_model_that_ends_without_a_norm_is_imported_whole(tmp_path: Path) -> None:
    """Its unit of the final norm is there, as every stage expects, and holds nothing."""
    small = {"hidden_size": 24, "word_embed_proj_dim": 24, "ffn_dim": 40, "vocab_size": 50}
    few = {"num_hidden_layers": 1, "max_position_embeddings": 30, "do_layer_norm_before": False}
    config = {**config_of("opt-125m"), **small, **few}
    tensors = [tensor for unit in plan(config).units for tensor in unit.tensors]
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    TinyCheckpoint(dict(config), shapes, dtype="BF16").write(tmp_path / "opt")
    store = MemoryObjectStore()
    importer = Importer(
        Uploader(store, store, NicGovernor(0), RetryPolicy()),
        ImportSettings((tmp_path,), tmp_path / "scratch", ConversionLimits(1 << 30, 10)),
    )

    imported = await importer.run(
        tmp_path / "opt", tenant=OPERATOR_TENANT, is_public=True, report=lambda _progress: None
    )

    data = await store.get(f"manifests/{imported.manifest_digest}", max_bytes=1 << 20)
    manifest = decode_manifest(data)
    assert [unit.kind for unit in manifest.units] == [
        UnitKind.EMBEDDING,
        UnitKind.LAYER,
        UnitKind.FINAL_NORM,
    ]
    assert manifest.units[-1].tensors == ()


def test_cache_bytes_count_the_keys_that_heads_share() -> None:
    assert plan(config_of("falcon-7b")).kv_bytes_per_token == 2 * 32 * 64 * 2
    assert plan(config_of("falcon-40b")).kv_bytes_per_token == 2 * 60 * 8 * 64 * 2
    assert plan(config_of("Mistral-7B-v0.1")).kv_bytes_per_token == 2 * 32 * 8 * 128 * 2


def test_a_number_of_key_heads_that_says_the_same_twice_is_read() -> None:
    of_two = {**config_of("falcon-7b"), "num_key_value_heads": 1}
    assert plan(of_two).kv_bytes_per_token == plan(config_of("falcon-7b")).kv_bytes_per_token


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
REFUSED: tuple[tuple[str, dict[str, object], str, str], ...] = (
    ("Llama-2-7b", {"sliding_window": 4096}, "sliding_window", "a key that Llama does not know"),
    ("Llama-2-7b", {"hidden_act": "gelu"}, "hidden_act", "another activation"),
    ("Llama-2-7b", {"rope_scaling": YARN}, "rope_scaling.rope_type", "an unknown rope"),
    ("Llama-3.1-8B", {"partial_rotary_factor": 0.5}, "partial_rotary_factor", "rope in part"),
    ("Llama-2-7b", {"auto_map": {}}, "auto_map", "code of its own"),
    ("Mistral-7B-v0.1", {"sliding_window": 0}, "sliding_window", "an empty window"),
    ("Mistral-7B-v0.1", {"attention_bias": True}, "attention_bias", "biases without tensors"),
    ("Mistral-7B-v0.1", {"num_key_value_heads": 5}, "num_key_value_heads", "5 no divisor of 32"),
    ("Qwen2.5-0.5B", {"rope_scaling": YARN}, "rope_scaling.rope_type", "a stretched context"),
    (
        "Qwen2.5-0.5B",
        {"layer_types": ["sliding_attention"] * 24},
        "layer_types",
        "windows of no size",
    ),
    ("Qwen2.5-0.5B", {"layer_types": ["full_attention"]}, "layer_types", "types for one layer"),
    (
        "Qwen3-0.6B",
        {"layer_types": ["chunked_attention"] * 28},
        "layer_types",
        "an unknown attention",
    ),
    ("Qwen3-0.6B", {"head_dim": None}, "head_dim", "no head size"),
    ("Qwen3-0.6B", {"num_experts": 8}, "num_experts", "experts"),
    ("opt-125m", {"activation_function": "gelu"}, "activation_function", "another activation"),
    ("opt-125m", {"layer_norm_elementwise_affine": False}, "layer_norm_elem", "bare norms"),
    ("opt-125m", {"num_attention_heads": 7}, "num_attention_heads", "7 no divisor of 768"),
    ("opt-125m", {"rope_theta": 1e4}, "rope_theta", "rope beside learned positions"),
    ("falcon-7b", {"alibi": True}, "alibi", "ALiBi"),
    ("falcon-7b", {"activation": "relu"}, "activation", "another activation"),
    ("falcon-7b", {"num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn", "two old norms"),
    ("falcon-7b", {"multi_query": False, "num_kv_heads": 8}, "num_kv_heads", "old groups"),
    ("falcon-7b", {"num_key_value_heads": 71}, "num_key_value_heads", "71 beside one for all"),
    ("falcon-40b", {"parallel_attn": False}, "parallel_attn", "a new decoder in series"),
    ("falcon-7b", {"n_head": 71}, "n_head", "a name from before"),
    ("gemma-2-2b", {"hidden_activation": "gelu"}, "hidden_activation", "another GELU"),
    ("gemma-2-2b", {"use_bidirectional_attention": True}, "use_bidirectional", "an encoder"),
    ("gemma-2-2b", {"final_logit_softcapping": 0.0}, "final_logit_soft", "a cap of nothing"),
    ("gemma-2-2b", {"sliding_window_size": 8}, "sliding_window_size", "two windows"),
    ("gemma-2-2b", {"rope_local_base_freq": 1e4}, "rope_local_base_freq", "Gemma 3's key"),
)


@pytest.mark.parametrize(
    ("name", "changes", "key"),
    [(name, changes, key) for name, changes, key, _ in REFUSED],
    ids=[f"{name}: {reason}" for name, _, _, reason in REFUSED],
)
def test_what_is_not_supported_is_refused_by_its_key(
    name: str, changes: dict[str, object], key: str
) -> None:
    with pytest.raises(ImportRefused) as refused:
        plan({**config_of(name), **changes})

    assert refused.value.code == "bad_config"
    assert str(refused.value).split(": ")[-2].startswith(key), str(refused.value)


@pytest.mark.parametrize("model", PUBLISHED, ids=lambda model: model.name)
def test_no_family_ignores_a_key_that_nobody_knows(model: Published) -> None:
    with pytest.raises(ImportRefused, match="new_idea: this key is not supported"):
        plan({**model.config, "new_idea": 1})


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PUBLISHED), st.data())
def test_an_odd_value_anywhere_is_planned_or_refused(model: Published, data: st.DataObject) -> None:
    keys = sorted({*model.config, "layer_types", "rope_parameters", "sliding_window"})
    changes = data.draw(st.dictionaries(st.sampled_from(keys), ODD, min_size=1, max_size=3))
    try:
        planned = plan({**model.config, **changes})
    except ImportRefused as exc:
        assert exc.code and str(exc)
    else:
        assert all(min(t.shape) >= 1 for unit in planned.units for t in unit.tensors)


@pytest.mark.parametrize("model", PUBLISHED, ids=lambda model: model.name)
def test_a_quantised_checkpoint_is_refused_with_a_way_out(model: Published) -> None:
    with pytest.raises(ImportRefused, match="quantization_config; save the model as bfloat16"):
        plan({**model.config, "quantization_config": {"bits": 4}})
