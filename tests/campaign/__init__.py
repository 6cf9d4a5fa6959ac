"""Faults of every part while clients work: what was acknowledged is there, and nothing else is."""
