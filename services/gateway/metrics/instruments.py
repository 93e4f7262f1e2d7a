"""The instruments of every service's metrics, by the name that they have here."""

from libs.common.observability.instruments import Counter, Gauge, Gauges, Histogram

__all__ = ["Counter", "Gauge", "Gauges", "Histogram"]
