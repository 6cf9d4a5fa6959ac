"""Tests; a package, so that modules of different layers may bear the same name."""
