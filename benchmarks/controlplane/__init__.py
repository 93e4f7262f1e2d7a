"""What the control plane costs at scale."""
