"""What metadata and storage servers both need of HTTP: faults, callers, signed endpoints, logs, listening."""
