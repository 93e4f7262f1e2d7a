"""Sets of any size as one argument: a statement has room for 32,767 of them."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, String, any_, literal
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute


def texts(values: Collection[str]) -> BindParameter[Any]:
    return literal(list(values), ARRAY(String))


def is_one_of(
    column: ColumnElement[str] | InstrumentedAttribute[str] | InstrumentedAttribute[str | None],
    values: Collection[str],
) -> ColumnElement[bool]:
    return column == any_(texts(values))
