"""Real services of other people, started for tests and benchmarks."""
