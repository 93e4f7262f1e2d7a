import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.strict_json import JsonFieldError, canonical_bytes, parse_object

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b'{"a": 1, "a": 2}', "twice", id="a key twice"),
        pytest.param(b'{"a": NaN}', "NaN", id="not a number"),
        pytest.param(b'{"a": 1e999}', "1e999", id="beyond a float"),
        pytest.param(b'{"a": "\\ud800"}', "surrogates", id="half a surrogate pair"),
        pytest.param(b'{"\\udfff": 1}', "surrogates", id="half a pair as a key"),
        pytest.param(b'{"a": ' + b"[" * 10**5, "deep", id="nested beyond reason"),
        pytest.param(b'{"a": ' + b"9" * 10**5 + b"}", "digits", id="a number without end"),
        pytest.param(b"\xff", "utf-8", id="not UTF-8"),
        pytest.param(b"[1]", "object", id="a list"),
    ],
)
def test_what_cannot_be_written_again_is_not_read(data: bytes, reason: str) -> None:
    with pytest.raises(JsonFieldError, match=reason):
        parse_object(data)


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert parse_object(b'{"a": "\\ud83d\\ude00"}').text("a") == "\U0001f600"


@given(st.dictionaries(st.text(), JSON))
def test_canonical_bytes_come_back_as_the_same_value(value: dict[str, object]) -> None:
    data = canonical_bytes(value)

    assert canonical_bytes(parse_object(data).values) == data


@given(st.binary(max_size=100))
def test_arbitrary_bytes_raise_nothing_but_a_field_error(data: bytes) -> None:
    try:
        canonical_bytes(parse_object(data).values)
    except JsonFieldError:
        pass


def test_an_error_names_the_path_of_its_field() -> None:
    document = parse_object(b'{"units": [{"size": 1}, {"size": "x"}]}')

    with pytest.raises(JsonFieldError) as caught:
        document.children("units")[1].integer("size")

    assert caught.value.field == "units[1].size"
