"""The `hydraserve` command: a client of the gateway's HTTP API, and a way to start the stack."""
