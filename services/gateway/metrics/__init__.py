"""What a gateway counts, in the Prometheus text format."""
