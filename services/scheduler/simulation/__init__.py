"""A virtual clock and modelled nodes around the decisions of the real scheduler."""
