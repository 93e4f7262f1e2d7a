"""Processes that do what strangers decide: rendering their templates, running their tokenizers."""
