"""The mount of a space (pyfuse3) will live here; like the command line it reaches a space through the client alone."""
