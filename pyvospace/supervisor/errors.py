"""What keeps a process from being started."""


class SupervisorError(Exception):
    """Something outside of us is in the way: said to the user in one line."""
