"""Endpoints of archives."""

from typing import Final

from aiohttp import web

from pyvospace.config import Settings
from pyvospace.model.claims import EndpointClaims
from pyvospace.model.faults import PermissionDenied
from pyvospace.service.endpoints import EndpointSigner
from pyvospace.storage.archives.catalogue import ArchiveCatalogue
from pyvospace.storage.archives.packing import Outside, Packer
from pyvospace.storage.archives.unpacking import Unpacker
from pyvospace.storage.backend import StorageBackend
from pyvospace.storage.catalogue import Catalogue
from pyvospace.storage.hashing import Announced
from pyvospace.storage.jobs import record_delivery
from pyvospace.storage.room import Room
from pyvospace.storage.threads import Workers

PACK: Final = "pack"
UNPACK: Final = "unpack"
ARCHIVES: Final = frozenset({PACK, UNPACK})


class Archives:
    """Trees that leave as archives, and archives that become trees."""

    def __init__(
        self,
        settings: Settings,
        *,
        archives: ArchiveCatalogue,
        catalogue: Catalogue,
        backend: StorageBackend,
        workers: Workers,
        room: Room,
    ) -> None:
        self._archives = archives
        idle = settings.storage.idle_timeout
        self._outside = Outside(EndpointSigner(settings.authority, archives.signing_key), idle=idle)
        self._packer = Packer(
            archives,
            backend,
            workers,
            self._outside,
            authority=settings.authority,
            idle=idle,
            zip_members=settings.archives.members,
        )
        self._unpacker = Unpacker(
            settings, archives=archives, catalogue=catalogue, backend=backend, workers=workers, room=room
        )

    async def get(self, request: web.Request, claims: EndpointClaims) -> web.StreamResponse:
        """Send an archive; once it is complete, so is its job."""
        if claims.operation != PACK:
            if request.method == "HEAD":
                return web.Response()
            raise PermissionDenied("this endpoint is for writing")
        response, claim = await self._packer.answer(request, claims)
        if claim.waiting and request.method == "GET":
            await record_delivery(claim.job_id, self._archives.delivered(claim))
        return response

    async def put(self, request: web.Request, claims: EndpointClaims, announced: Announced) -> web.Response:
        """Take an archive."""
        return await self._unpacker.answer(request, claims, announced)

    async def close(self) -> None:
        """End connections to other storages."""
        await self._outside.close()
