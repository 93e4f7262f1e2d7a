"""Targets met and cost of each policy, with real processes."""
