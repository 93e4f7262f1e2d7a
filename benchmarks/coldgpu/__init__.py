"""Cold starts on a GPU: `python -m benchmarks.coldgpu`."""
