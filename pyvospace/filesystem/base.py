"""What all parts of the file system need: the options, the spaces, and what paths mean."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any, ClassVar, Self

from fsspec.asyn import AsyncFileSystem, sync_wrapper
from fsspec.utils import tokenize

from pyvospace.client import Access, Space
from pyvospace.filesystem.failures import translated
from pyvospace.filesystem.information import Info
from pyvospace.filesystem.paths import PROTOCOLS, ROOT, names_of, parent_of, path_of, url_of
from pyvospace.filesystem.spaces import OpenSpaces
from pyvospace.model.faults import Fault
from pyvospace.model.uris import NodeUri

_AT_ONCE = 32
"""Requests of one call at once; a client has so many connections."""
_BLOCK = 4 << 20
_SECRETS = ("token", "password")


class Base(AsyncFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Options, spaces and paths."""

    protocol: ClassVar[tuple[str, ...]] = PROTOCOLS
    root_marker = ROOT

    def __init__(
        self,
        *,
        endpoint_url: str | None = None,
        token: str | None = None,
        user: str | None = None,
        password: str | None = None,
        authority: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        auto_mkdir: bool = True,
        block_size: int | None = None,
        cache_type: str = "readahead",
        cache_options: dict[str, Any] | None = None,
        use_listings_cache: bool = False,
        listings_expiry_time: float | None = None,
        max_paths: int | None = None,
        asynchronous: bool = False,
        loop: Any = None,
        batch_size: int | None = None,
    ) -> None:
        super().__init__(
            asynchronous=asynchronous,
            loop=loop,
            batch_size=batch_size or _AT_ONCE,
            use_listings_cache=use_listings_cache,
            listings_expiry_time=listings_expiry_time,
            max_paths=max_paths,
        )
        self.auto_mkdir = auto_mkdir
        self.blocksize = block_size or _BLOCK
        self.cache_type = cache_type
        self.cache_options = cache_options
        trusted = None if ca_file is None else Path(ca_file).expanduser()
        try:
            options = Access(
                url=endpoint_url, token=token, user=user, password=password, authority=authority, ca_file=trusted
            )
            self._spaces = OpenSpaces(options)
        except Fault as fault:
            raise ValueError(fault.detail) from None
        self._closing = weakref.finalize(self, self._spaces.abandon)

    # ------------------------------------------------------------------ what fsspec asks of every file system

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return [cls._strip_protocol(one) for one in path] if isinstance(path, list) else path_of(path)

    def unstrip_protocol(self, name: str) -> str:
        """Give the URL of a path."""
        return url_of(name)

    @classmethod
    def _parent(cls, path: str) -> str:
        return parent_of(path_of(path))

    @property
    def fsid(self) -> str:
        """Name the service, and who asks it, for comparisons among processes."""
        return f"{PROTOCOLS[0]}_{self._fs_token}"

    @property
    def _fs_token(self) -> str:
        """Name this object, without what could be guessed from it: the names of tasks are made of it."""
        told = {name: value for name, value in self.storage_options.items() if name not in _SECRETS}
        return str(tokenize(type(self), **told))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.storage_options == getattr(other, "storage_options", None)

    def __hash__(self) -> int:
        return int(self._fs_token, 16)

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Write it down, with the secrets that it was given, or without."""
        told: dict[str, Any] = super().to_dict(include_password=include_password)
        return {name: value for name, value in told.items() if include_password or name not in _SECRETS}

    # ------------------------------------------------------------------ connections

    async def _close(self) -> None:
        await self._spaces.close()

    close = sync_wrapper(_close)

    async def __aenter__(self) -> Self:
        """Be ready."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections of this event loop."""
        await self._close()

    # ------------------------------------------------------------------ paths

    async def _place(self, path: str) -> tuple[Space, NodeUri]:
        """Give the space of a path and what the node is called there."""
        with translated(path):
            return await self._spaces.place(*names_of(path))

    # ------------------------------------------------------------------ listings that are kept

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget the listing of a container and of the one above; None: all listings."""
        super().invalidate_cache(path)
        if path is None:
            self.dircache.clear()
            return
        top = path_of(path)
        for known in [one for one in self.dircache if one == top or one.startswith(f"{top.rstrip('/')}/")]:
            self.dircache.pop(known, None)
        self.dircache.pop(parent_of(top), None)

    def _kept(self, path: str) -> Info | None:
        """Find a node in the listing of its container, if that is kept."""
        listing: list[Info] = self.dircache.get(parent_of(path), [])
        return next((one for one in listing if one["name"] == path and not one["islink"]), None)
