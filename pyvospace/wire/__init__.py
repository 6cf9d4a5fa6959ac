"""Documents: one ``render`` and one ``parse`` for each, for server and client alike. Nothing else knows lxml."""
