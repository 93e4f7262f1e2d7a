"""Replays a trace of requests on the embedded stack, and keeps what became of them."""
