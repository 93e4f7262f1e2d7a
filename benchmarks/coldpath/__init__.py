"""Parts of `benchmarks.cold`."""
