import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from libs.common.errors import SafetensorsError
from libs.common.weights.safetensors import (
    LENGTH_FIELD_BYTES,
    MAX_HEADER_BYTES,
    TensorSpec,
    header_length,
    parse_header,
    plan_layout,
)

SPECS = [
    TensorSpec("norm", "BF16", (9,)),
    TensorSpec("q", "F32", (4, 4)),
    TensorSpec("k", "F32", (2, 4)),
]


def test_a_planned_file_is_one_that_the_reference_reader_opens(tmp_path: Path) -> None:
    layout = plan_layout(SPECS, alignment=64)
    path = tmp_path / "unit.safetensors"
    path.write_bytes(layout.header + bytes(layout.size_bytes - len(layout.header)))

    with safe_open(path, framework="numpy") as opened:
        shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}

    assert {spec.name: spec.shape for spec in SPECS}.items() <= shapes.items()


def test_tensors_are_aligned_and_in_the_given_order() -> None:
    layout = plan_layout(SPECS, alignment=64)

    assert [tensor.spec for tensor in layout.tensors] == SPECS
    assert all(tensor.offset % 64 == 0 for tensor in layout.tensors)
    assert layout.tensors[2].offset == layout.tensors[1].end  # q and k touch


def test_what_was_planned_is_what_the_parser_finds() -> None:
    layout = plan_layout(SPECS, alignment=64)

    found = parse_header(layout.header[LENGTH_FIELD_BYTES:], layout.size_bytes)

    assert set(layout.tensors) <= set(found)


def header_of(**tensors: dict[str, Any]) -> bytes:
    return json.dumps(tensors).encode()


def one(shape: list[int], offsets: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("header", "data_bytes", "message"),
    [
        pytest.param(b"{", 0, "JSON", id="broken JSON"),
        pytest.param(b"[]", 0, "JSON object", id="no object"),
        pytest.param(b'{"a":1,"a":2}', 0, "twice", id="a name twice"),
        pytest.param(b"[" * 100_000, 0, "deep", id="nested beyond reason"),
        pytest.param(header_of(a=one([2], [0, 8], "F99")), 8, "dtype", id="unknown dtype"),
        pytest.param(header_of(a=one([3], [0, 8])), 8, "12 bytes apart", id="wrong size"),
        pytest.param(header_of(a=one([-2], [0, 8])), 8, "shape", id="negative size"),
        pytest.param(header_of(a=one([2], [0, 8])), 4, "outside", id="beyond the file"),
        pytest.param(
            header_of(a=one([2], [0, 8]), b=one([2], [4, 12])), 12, "overlaps", id="overlap"
        ),
        pytest.param(header_of(a=one([2], [4, 12])), 12, "unused", id="a hole"),
        pytest.param(header_of(a=one([2], [0, 8])), 9, "unused", id="bytes left over"),
    ],
)
def test_a_header_that_the_format_forbids_is_refused(
    header: bytes, data_bytes: int, message: str
) -> None:
    with pytest.raises(SafetensorsError, match=message):
        parse_header(header, LENGTH_FIELD_BYTES + len(header) + data_bytes)


@pytest.mark.parametrize(
    "length", [MAX_HEADER_BYTES + 1, 2**63, 93], ids=["over the cap", "absurd", "over the file"]
)
def test_a_header_length_that_cannot_be_is_refused(length: int) -> None:
    with pytest.raises(SafetensorsError):
        header_length(length.to_bytes(8, "little"), 100)


@given(st.binary(max_size=300))
def test_arbitrary_headers_raise_nothing_but_a_safetensors_error(header: bytes) -> None:
    try:
        parse_header(header, LENGTH_FIELD_BYTES + len(header) + 64)
    except SafetensorsError:
        pass
