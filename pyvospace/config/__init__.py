"""Settings: one typed object from command line, environment and file."""

from pyvospace.config.load import ConfigError, Problem, check, load
from pyvospace.config.settings import Settings

__all__ = ["ConfigError", "Problem", "Settings", "check", "load"]
