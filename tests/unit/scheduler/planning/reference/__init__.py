"""Slow planners and clusters that say the same: what the quick ones are compared with."""
