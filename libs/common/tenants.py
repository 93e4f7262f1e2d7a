"""Who is whose."""

OPERATOR_TENANT = "default"  # the bootstrap key's: makes keys for others, imports from anywhere
