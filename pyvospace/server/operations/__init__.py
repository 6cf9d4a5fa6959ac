"""One function for each operation of the standard: no HTTP, no XML."""
