"""Rows: the only layer that speaks to PostgreSQL. SQL stands in ``sql/``, one file of named statements a module."""
