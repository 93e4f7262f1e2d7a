"""How much one tenant's load delays another tenant's warm requests."""
