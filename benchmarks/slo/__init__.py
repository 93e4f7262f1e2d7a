"""Targets met and cost of each policy, simulated on the published end-to-end evaluation."""
