"""The command line: it describes, and leaves the doing to client and supervisor."""
