"""What nodes do: fetch, launch, load, prefill, decode, stop."""
