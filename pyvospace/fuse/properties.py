"""Properties of nodes as extended attributes: ``user.vospace.title``, ``user.vospace.ivo://…#mode``."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, Final

from pyvospace.fuse.names import attribute_of, property_of
from pyvospace.model.nodes import Property

if TYPE_CHECKING:
    from pyvospace.fuse.tree import Inode
    from pyvospace.fuse.volume import Volume
    from pyvospace.model.nodes import Node

_KEPT: Final = 64
"""Nodes whose properties are remembered: programs ask for one attribute after another."""


class Properties:
    """Attributes of the inodes of one mount."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._known: dict[int, tuple[float, Node]] = {}

    async def get(self, inode: Inode, name: bytes) -> bytes:
        """Give the value of an attribute.

        Raises
        ------
        OSError
            ENODATA: the node has none such. ENOTSUP: no node can have it.
        """
        uri = _known_property(name)
        value = (await self._node(inode)).value(uri)
        if value is None:
            raise OSError(errno.ENODATA, "the node has no such property")
        return value.encode()

    async def names(self, inode: Inode) -> list[bytes]:
        """Give the attributes of the properties that a node has."""
        if not inode.in_space:
            return []
        return [attribute_of(one.uri) for one in (await self._node(inode)).properties if one.value is not None]

    async def set(self, inode: Inode, name: bytes, value: bytes) -> None:
        """Set a property; a file that the space does not know yet is sent first.

        Raises
        ------
        OSError
            The value is no text, or nobody can set the property.
        """
        uri = _known_property(name)
        try:
            text = value.decode("utf-8", "strict")
        except UnicodeError:
            raise OSError(errno.EINVAL, "the value of a property is text in UTF-8") from None
        await self._change(inode, Property(uri, text))

    async def remove(self, inode: Inode, name: bytes) -> None:
        """Remove a property; see `get` for what it raises."""
        await self.get(inode, name)
        await self._change(inode, Property(_known_property(name), None))

    async def _change(self, inode: Inode, changed: Property) -> None:
        if inode.unsent:
            await self._volume.cache.settle(inode.path)
        self._known.pop(inode.number, None)
        node = await self._node(inode)
        if any(one.uri == changed.uri and one.read_only for one in node.properties):
            raise OSError(errno.EPERM, "the service keeps this property by itself")
        self._known.pop(inode.number, None)
        await self._volume.remote.set(inode.path, node.type, changed)
        inode.fresh_until = 0.0

    async def _node(self, inode: Inode) -> Node:
        if not inode.in_space:
            raise OSError(errno.ENODATA, "the space does not know the file yet")
        now = time.monotonic()
        known = self._known.get(inode.number)
        if known is not None and known[0] > now:
            return known[1]
        node = await self._volume.remote.node(inode.path)
        if len(self._known) >= _KEPT:
            self._known.clear()
        self._known[inode.number] = (now + self._volume.tree.view.fresh, node)
        return node


def _known_property(name: bytes) -> str:
    uri = property_of(name)
    if uri is None:
        # For names of others, such as security.selinux, ls asks once for the whole mount when it hears this.
        raise OSError(errno.ENOTSUP, "no property of a node")
    return uri
