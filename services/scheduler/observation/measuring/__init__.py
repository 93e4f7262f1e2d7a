"""Turns what nodes tell of starts and of engines into measurements."""
