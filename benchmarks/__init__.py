"""Measures this server beside its ceilings, in the same run, and prints ratios with medians."""
