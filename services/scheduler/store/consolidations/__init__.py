"""Rows of `consolidations`, with those of their members, their fetches and their endpoints."""
