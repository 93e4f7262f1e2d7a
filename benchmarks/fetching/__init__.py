"""How fast weights come from an object store: `python -m benchmarks.fetching [repeats]`."""
