"""pyvospace: a VOSpace 2.1 service."""

__version__ = "0.1.0"
