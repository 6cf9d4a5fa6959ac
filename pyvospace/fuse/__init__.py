"""The mount of a space (pyfuse3) will live here; it reaches a space through the client alone."""
