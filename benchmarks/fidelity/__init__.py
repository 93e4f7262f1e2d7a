"""How far the simulator is from real processes: the same trace on both."""
