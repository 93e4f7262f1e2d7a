"""For how long heartbeats tell of the steps of a cold start."""

# After the step's end. A leader writes steps within seconds, and is replaced within seconds; later
# they would only be read again with every heartbeat of what serves.
TOLD_S = 15.0
