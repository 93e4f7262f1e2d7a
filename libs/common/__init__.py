"""What two services need: messages, bus, database, weights formats, telemetry."""
