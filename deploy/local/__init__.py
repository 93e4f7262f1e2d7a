"""The embedded stack: real NATS, Postgres and S3 servers and N nodes, under one supervisor."""
