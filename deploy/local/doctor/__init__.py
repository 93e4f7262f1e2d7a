"""Which of the promises in docs/invariants.md hold in a running stack (`hydraserve doctor`)."""
