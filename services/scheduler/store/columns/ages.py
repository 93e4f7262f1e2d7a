"""Ages of timestamps by the database's own clock."""

from datetime import datetime

from sqlalchemy import ColumnElement, Float, Interval, cast, func, literal
from sqlalchemy.orm import InstrumentedAttribute


def age_s(
    column: InstrumentedAttribute[datetime] | InstrumentedAttribute[datetime | None],
) -> ColumnElement[float]:
    """Seconds since the timestamp; NULL when it is NULL, negative when it lies ahead."""
    return cast(func.extract("epoch", func.now() - column), Float)


def seconds(duration_s: float) -> ColumnElement[object]:
    """An interval, to be added to or taken from `now()`."""
    return func.make_interval(0, 0, 0, 0, 0, 0, literal(duration_s, Float), type_=Interval)
