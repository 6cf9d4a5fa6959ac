"""Tests of what a VOSpace is made of."""
