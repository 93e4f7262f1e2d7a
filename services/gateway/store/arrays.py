"""Sets of any size as one argument: a statement has room for 32,767 of them."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import BindParameter, String, literal
from sqlalchemy.dialects.postgresql import ARRAY


def texts(values: Collection[str]) -> BindParameter[Any]:
    return literal(list(values), ARRAY(String))
