"""The tree that an archive holds, gathered member by member."""

from pyvospace.model.archives import Leaf, Unpacked
from pyvospace.model.claims import StoredFile
from pyvospace.model.faults import InvalidData
from pyvospace.model.uris import NodeUri
from pyvospace.storage.archives.reading import UnpackLimits, too_many


class Tree:
    """Grows until it becomes nodes, all at once.

    Parameters
    ----------
    top
        The container that the archive is unpacked in.
    """

    def __init__(self, top: NodeUri, limits: UnpackLimits) -> None:
        self._top = top
        self._limits = limits
        self._folders: set[tuple[str, ...]] = {()}
        self._leaves: dict[tuple[str, ...], StoredFile | str] = {}

    def add_folder(self, path: tuple[str, ...]) -> None:
        """Add a container and all above it.

        Raises
        ------
        InvalidData
            The archive has something else there.
        RequestEntityTooLarge
            These are too many nodes.
        """
        while path not in self._folders:
            if path in self._leaves:
                raise InvalidData(f"{path[-1]!r} is in the archive as a directory and as something else")
            self._folders.add(path)
            path = path[:-1]
        if len(self._folders) + len(self._leaves) > self._limits.members + 1:
            raise too_many(self._limits)

    def add_file(self, path: tuple[str, ...], stored: StoredFile) -> None:
        """Add a data node, or replace it: of members with one name the last counts, as for tar."""
        self._add(path, stored)

    def add_link(self, path: tuple[str, ...], target: tuple[str, ...]) -> None:
        """Add a link to another place of the tree."""
        self._add(path, str(NodeUri(self._top.authority, self._top.path + target)))

    def _add(self, path: tuple[str, ...], what: StoredFile | str) -> None:
        before = self._leaves.get(path)
        if path in self._folders or (before is not None and isinstance(before, str) is not isinstance(what, str)):
            raise InvalidData(f"{path[-1]!r} is in the archive twice, as different things")
        self._leaves[path] = what
        self.add_folder(path[:-1])

    def unpacked(self) -> Unpacked:
        """Give the whole tree, level by level."""
        paths = sorted(self._folders - {()}, key=lambda path: (len(path), path))
        places = {(): 0} | {path: place for place, path in enumerate(paths, 1)}
        ends = {len(path): place for place, path in enumerate(paths, 1)}
        return Unpacked(
            folders=tuple((places[path[:-1]], path[-1]) for path in paths),
            level_ends=tuple(ends[level] for level in sorted(ends)),
            leaves=tuple(
                Leaf(places[path[:-1]], path[-1], None, what)
                if isinstance(what, str)
                else Leaf(places[path[:-1]], path[-1], what)
                for path, what in self._leaves.items()
            ),
        )

    def stored(self) -> set[str]:
        """Give the locations that become nodes."""
        return {what.location for what in self._leaves.values() if isinstance(what, StoredFile)}
