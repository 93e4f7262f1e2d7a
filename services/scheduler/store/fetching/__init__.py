"""Rows of what nodes fetch."""
