"""Sets of any size as one argument: a statement has room for 32,767 of them."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, String, any_, bindparam, literal
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute


def texts(values: Collection[str]) -> BindParameter[Any]:
    return literal(list(values), ARRAY(String))


TextColumn = ColumnElement[str] | InstrumentedAttribute[str] | InstrumentedAttribute[str | None]


def is_one_of(column: TextColumn, values: Collection[str]) -> ColumnElement[bool]:
    return column == any_(texts(values))


def is_among(column: TextColumn, parameter: str) -> ColumnElement[bool]:
    """As of `is_one_of`, of a list that comes with each execution. For statements that are built
    once: building one takes twice as long as running it."""
    return column == any_(bindparam(parameter, type_=ARRAY(String)))
