"""HTTP: each handler parses, calls an operation, and renders. No rule about nodes stands here."""
