"""Servers of other protocols than HTTP: for single transfers, and for a whole space."""
