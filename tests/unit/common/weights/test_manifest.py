import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import ManifestError
from libs.common.strict_json import canonical_bytes
from libs.common.weights.manifest_json import decode_manifest, encode_manifest, manifest_digest
from tests.unit.common.weights.builders import tiny_manifest

Edit = Callable[[dict[str, Any]], object]


def test_a_manifest_survives_encoding_and_decoding() -> None:
    manifest = tiny_manifest()

    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_equal_manifests_have_equal_bytes_and_digests() -> None:
    first, second = encode_manifest(tiny_manifest()), encode_manifest(tiny_manifest())

    assert first == second
    assert len(manifest_digest(first)) == 64


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        pytest.param(lambda m: m.update(format=2), "format", id="another format version"),
        pytest.param(lambda m: m.update(extra=1), "extra", id="an unknown field"),
        pytest.param(lambda m: m.update(vocab_size="8"), "vocab_size", id="a text for a number"),
        pytest.param(lambda m: m.update(vocab_size=True), "vocab_size", id="a bool for a number"),
        pytest.param(lambda m: m["units"][0].update(digest="zz"), "digest", id="a bad digest"),
        pytest.param(lambda m: m["units"][0].update(kind="x"), "kind", id="an unknown kind"),
        pytest.param(lambda m: m["units"].pop(1), "layers", id="a layer is missing"),
        pytest.param(lambda m: m["units"].pop(0), "embedding", id="no embedding"),
        pytest.param(
            lambda m: m["units"][0]["chunk_digests"].clear(), "chunk_digests", id="chunks"
        ),
        pytest.param(
            lambda m: m["units"][0]["tensors"][0].update(offset=1 << 20),
            "outside",
            id="a tensor beyond its unit",
        ),
        pytest.param(
            lambda m: m["units"][0]["tensors"][0].update(offset=33), "offset", id="unaligned"
        ),
        pytest.param(
            lambda m: m["units"][0]["tensors"][0].update(shape=[9, 4]), "nbytes", id="wrong shape"
        ),
        pytest.param(
            lambda m: m["tokenizer_files"][0].update(name="../x"), "name", id="a path as a name"
        ),
    ],
)
def test_a_malformed_manifest_is_refused_and_the_field_named(edit: Edit, field: str) -> None:
    document = json.loads(encode_manifest(tiny_manifest()))
    edit(document)

    with pytest.raises(ManifestError, match=field):
        decode_manifest(canonical_bytes(document))


def test_bytes_that_are_not_canonical_are_refused() -> None:
    with pytest.raises(ManifestError, match="canonical"):
        decode_manifest(encode_manifest(tiny_manifest()) + b"\n")


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_a_manifest_error(data: bytes) -> None:
    with pytest.raises(ManifestError):
        decode_manifest(data)
