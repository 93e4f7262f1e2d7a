"""Rounds of the real decisions, on virtual time."""
