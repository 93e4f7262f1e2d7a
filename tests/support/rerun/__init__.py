"""What CI runs: the suite, and once more, alone, the few tests that failed (`.ci/run`)."""
