"""The workers of a hollow node: the real frames, without processes and engines."""
