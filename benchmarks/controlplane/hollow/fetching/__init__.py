"""The fetcher of a hollow node: the real messages, fetches and heartbeats, without bytes."""
