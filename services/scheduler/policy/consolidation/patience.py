"""For how long the weights of a consolidation may take. Pure."""

PATIENCE = 10.0  # times the predicted duration
MIN_PATIENCE_S = 60.0


def timeout_s(expected_s: float) -> float:
    return max(MIN_PATIENCE_S, PATIENCE * expected_s)
