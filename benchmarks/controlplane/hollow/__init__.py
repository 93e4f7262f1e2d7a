"""Hollow nodes: many simulated nodes in one process, which speak the real messages (README.md)."""
