"""The metadata server: nodes, transfers, jobs and what the service says of itself."""
