"""Rows of cold starts: what was planned, and what became of it."""
