"""What stages and full-memory workers of a pipeline buy, and what they cost."""
