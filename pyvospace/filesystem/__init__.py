"""Spaces as file systems of fsspec (`pyvospace://`, `vos://`), for notebooks and libraries that read through it."""

from pyvospace.filesystem.vospace import VOSpaceFileSystem

__all__ = ["VOSpaceFileSystem"]
