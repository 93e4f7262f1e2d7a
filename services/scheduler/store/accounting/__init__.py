"""Rows of what requests and endpoints have cost."""
