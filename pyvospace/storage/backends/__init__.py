"""Storage backends that come with pyvospace; they see no more than any plugin sees."""
