"""A space as a directory of this machine, by FUSE (pyfuse3); it reaches the space through the client alone.

`pyvospace.fuse.cache` keeps bytes and what is unsent, and knows nothing of FUSE; the modules here know names, inodes
and the kernel, and nothing of where bytes are kept. See docs/decisions/0041-mount.md.
"""
