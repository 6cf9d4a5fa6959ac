"""The local side of a mount: bytes that were read, and changes until the space has them.

Nothing here knows how the kernel asks; see docs/explanation/mount-cache.md for what is promised.
"""

from pyvospace.fuse.cache.cache import Cache
from pyvospace.fuse.cache.file import LocalFile
from pyvospace.fuse.cache.naming import cache_directory
from pyvospace.fuse.cache.records import Limits, Sent, UnsentFile, Version

__all__ = ["Cache", "Limits", "LocalFile", "Sent", "UnsentFile", "Version", "cache_directory"]
