"""All SQL of the gateway; rows become dataclasses here."""
