"""Looks for the plan that suits a model best."""
