"""Frozen dataclasses to JSON values and back, checked against their own annotations.

Understands bool, int, float, str, StrEnum, TokenIds, dataclasses, `X | None`, `tuple[X, ...]`,
`tuple[X, Y]`, unions of plain values, and `Mapping[str, X]`. What a dataclass itself refuses is no
frame either. A reader for each class is built once. Stdlib only: the runtime imports it.
"""

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache

from libs.common.strict_json import JsonFieldError
from libs.common.token_ids import TokenIds

Reader = Callable[[object, str], object]  # (JSON value, where it stands) → checked value
_PLAIN = frozenset({bool, int, float, str, types.NoneType})
_INT = frozenset({int})


def to_json(value: object) -> object:
    """The JSON value that stands for a dataclass instance, or for a part of one."""
    if isinstance(value, tuple):
        if _PLAIN.issuperset(map(type, value)):  # there are thousands of log-probabilities
            return list(value)
        return [to_json(item) for item in value]
    if isinstance(value, TokenIds):
        return value.base64()
    if is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    return dict(value) if isinstance(value, Mapping) else value


@cache
def reader_for(annotation: object) -> Reader:
    """What turns a JSON value into what `annotation` says, or raises JsonFieldError."""
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple:
        return _sequence(arguments[0]) if arguments[-1] is ... else _row(arguments)
    if origin is Mapping:
        return _mapping(arguments[1])
    if origin in (types.UnionType, typing.Union):
        return _optional(arguments) if types.NoneType in arguments else _plain(arguments)
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return _enum(annotation)
    assert isinstance(annotation, type) and is_dataclass(annotation), f"no reader for {annotation}"
    return _dataclass(annotation)


def _dataclass(cls: type) -> Reader:
    hints = typing.get_type_hints(cls)
    readers = {field.name: reader_for(hints[field.name]) for field in fields(cls)}
    required = {
        field.name
        for field in fields(cls)
        if field.default is MISSING and field.default_factory is MISSING
    }

    def read(value: object, path: str) -> object:
        if not isinstance(value, dict):
            raise JsonFieldError(path, "an object")
        if unknown := value.keys() - readers.keys():
            raise JsonFieldError(path, f"no field {min(unknown)!r}")
        if missing := required - value.keys():
            raise JsonFieldError(f"{path}.{min(missing)}", "a value")
        values = {key: readers[key](item, f"{path}.{key}") for key, item in value.items()}
        try:
            return cls(**values)
        except ValueError as exc:
            raise JsonFieldError(path, f"what its class allows ({exc})") from exc

    return read


def _sequence(item_annotation: object) -> Reader:
    read_item = reader_for(item_annotation)

    def read(value: object, path: str) -> object:
        if not isinstance(value, list):
            raise JsonFieldError(path, "a list")
        if item_annotation is int and _INT.issuperset(map(type, value)):
            return tuple(value)
        return tuple(read_item(item, path) for item in value)

    return read


def _row(annotations: tuple[object, ...]) -> Reader:
    readers = tuple(reader_for(annotation) for annotation in annotations)

    def read(value: object, path: str) -> object:
        if not isinstance(value, list) or len(value) != len(readers):
            raise JsonFieldError(path, f"a list of {len(readers)} items")
        return tuple(reader(item, path) for reader, item in zip(readers, value, strict=True))

    return read


def _mapping(item_annotation: object) -> Reader:
    read_item = reader_for(item_annotation)

    def read(value: object, path: str) -> object:
        if not isinstance(value, dict):
            raise JsonFieldError(path, "an object")
        return {name: read_item(item, path) for name, item in value.items()}

    return read


def _plain(kinds: tuple[type, ...]) -> Reader:
    assert _PLAIN.issuperset(kinds), f"no reader for a union of {kinds}"

    def read(value: object, path: str) -> object:
        if type(value) not in kinds:
            raise JsonFieldError(path, f"one of {', '.join(kind.__name__ for kind in kinds)}")
        return value

    return read


def _optional(arguments: tuple[object, ...]) -> Reader:
    (inner,) = (argument for argument in arguments if argument is not types.NoneType)
    read_inner = reader_for(inner)
    return lambda value, path: None if value is None else read_inner(value, path)


def _enum(cls: type[StrEnum]) -> Reader:
    def read(value: object, path: str) -> object:
        if not isinstance(value, str) or value not in cls._value2member_map_:
            raise JsonFieldError(path, f"one of {', '.join(cls)}")
        return cls(value)

    return read


def _scalar(kind: type, expected: str) -> Reader:
    def read(value: object, path: str) -> object:
        if type(value) is not kind:  # True is no number here
            raise JsonFieldError(path, expected)
        return value

    return read


def _float(value: object, path: str) -> object:
    if type(value) not in (int, float):
        raise JsonFieldError(path, "a number")
    try:
        return float(typing.cast("int | float", value))
    except OverflowError:
        raise JsonFieldError(path, "a number that a double holds") from None


def _token_ids(value: object, path: str) -> object:
    try:
        return TokenIds.from_base64(typing.cast("str", value))
    except (AttributeError, ValueError) as exc:
        raise JsonFieldError(path, "token ids in base64") from exc


_SCALARS: dict[object, Reader] = {
    bool: _scalar(bool, "true or false"),
    int: _scalar(int, "a whole number"),
    str: _scalar(str, "a text"),
    float: _float,
    TokenIds: _token_ids,
}
