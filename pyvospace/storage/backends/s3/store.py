"""Requests to an S3 store: boto3 in threads of our own."""

import configparser
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, ParamSpec, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from pyvospace.storage.backends.s3.checksums import CHECKSUMS, Buffer
from pyvospace.storage.backends.s3.errors import code_of, translated
from pyvospace.storage.backends.s3.options import Options
from pyvospace.storage.backends.s3.spans import Read, SpanReader, Wanted
from pyvospace.storage.waiting import run

P = ParamSpec("P")
T = TypeVar("T")

_CONTROL_THREADS: Final = 8
_LISTED_AT_ONCE: Final = 1000
_DEFAULT_REGION: Final = "us-east-1"
_THERE_IS_ONE: Final = frozenset({HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED})
_NOT_CONDITIONAL: Final = frozenset({"NotImplemented", "InvalidArgument", "InvalidRequest"})


class UnconditionalError(Exception):
    """The store does not know conditional PUT."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object of a listing."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Part:
    """A part that the store has."""

    number: int
    etag: str
    size: int
    digest: bytes


class Store:
    """A bucket, below a prefix.

    Transfers of bytes and everything else have threads of their own: who waits for a lock must not wait for bytes.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.checksum = CHECKSUMS[options.checksum]
        self._client: Any = None
        self._moving = ThreadPoolExecutor(options.threads, "s3-bytes")
        self._control = ThreadPoolExecutor(_CONTROL_THREADS, "s3")

    async def open(self) -> None:
        """Read the credentials and make the client; nothing is asked yet."""
        self._client = await run(self._control, _client, self.options)

    async def close(self) -> None:
        """Wait for what runs, and end threads and connections."""
        for pool in (self._moving, self._control):
            pool.shutdown()
        if self._client is not None:
            self._client.close()

    def key(self, name: str) -> str:
        """Give the key of a name below the prefix."""
        return self.options.prefix + name

    async def _call(self, name: str, what: str, **arguments: Any) -> dict[str, Any]:
        return await run(self._control, self._ask, name, what, arguments)

    def _ask(self, name: str, what: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        with translated(f"{name} {what}"):
            answer: dict[str, Any] = getattr(self._client, name)(Bucket=self.options.bucket, **arguments)
            return answer

    async def require_bucket(self) -> None:
        """See that there is one.

        Raises
        ------
        FileNotFoundError
            There is none.
        """
        await self._call("head_bucket", f"{self.options.bucket}: is there such a bucket?")

    # Objects

    async def put(self, name: str, data: Buffer, digest: bytes = b"") -> str:
        """Write an object in one request; give its ETag."""
        checked = self.checksum.arguments(digest) if self.checksum and digest else {}
        answer = await self._call("put_object", name, Key=self.key(name), Body=data, **checked, **self._kept())
        return plain(answer["ETag"])

    async def put_new(self, name: str, data: bytes) -> bool:
        """Write an object if there is none; tell whether it was written.

        Raises
        ------
        UnconditionalError
            The store cannot do that.
        """
        return await run(self._control, self._put_new, name, data)

    def _put_new(self, name: str, data: bytes) -> bool:
        with translated(f"put_object {name}"):
            try:
                self._client.put_object(Bucket=self.options.bucket, Key=self.key(name), Body=data, IfNoneMatch="*")
            except ClientError as error:
                code, status = code_of(error)
                if status in _THERE_IS_ONE:
                    return False
                if status == HTTPStatus.NOT_IMPLEMENTED or code in _NOT_CONDITIONAL:
                    raise UnconditionalError from None
                raise
            return True

    async def get(self, name: str) -> bytes:
        """Read a small object."""
        return await run(self._control, self._get, name)

    def _get(self, name: str) -> bytes:
        with translated(f"get_object {name}"):
            data: bytes = self._client.get_object(Bucket=self.options.bucket, Key=self.key(name))["Body"].read()
            return data

    async def head(self, name: str) -> dict[str, Any]:
        """Ask for size, ETag and checksum of an object."""
        shown = {"ChecksumMode": "ENABLED"} if self.checksum and self.checksum.algorithm else {}
        return await self._call("head_object", name, Key=self.key(name), **shown)

    async def copy(self, name: str, other: str) -> None:
        """Have the store itself copy an object, in parts if it is large."""
        await run(self._moving, self._copy, name, other)

    def _copy(self, name: str, other: str) -> None:
        bucket = self.options.bucket
        with translated(f"copy {name}"):
            self._client.copy({"Bucket": bucket, "Key": self.key(name)}, bucket, self.key(other), self._kept())

    def reader(self, name: str, size: int) -> SpanReader:
        """Make a reader of an object of `size` bytes."""
        return SpanReader(self._client, Wanted(self.options.bucket, self.key(name), size), self.options)

    def begin_read(self, reader: SpanReader, start: int, stop: int, etag: str | None) -> Future[Read]:
        """Begin to read bytes in a thread."""
        return self._moving.submit(reader.read, start, stop, etag)

    async def delete(self, name: str) -> None:
        """Delete an object; fine if there is none."""
        with suppress(FileNotFoundError):
            await self._call("delete_object", name, Key=self.key(name))

    async def listing(self, folder: str) -> AsyncIterator[list[Found]]:
        """Go through the objects whose names begin with `folder`, in batches; keys come without the prefix."""
        more: dict[str, str] = {}
        prefix = self.key(folder)
        while True:
            answer = await self._call(
                "list_objects_v2", folder, Prefix=prefix, MaxKeys=_LISTED_AT_ONCE, FetchOwner=False, **more
            )
            yield [self._found(one) for one in answer.get("Contents", ())]
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def _found(self, one: Mapping[str, Any]) -> Found:
        name = one["Key"].removeprefix(self.options.prefix)
        return Found(name, one["Size"], one["LastModified"])

    def presigned(self, name: str, content_type: str, disposition: str) -> str:
        """Make a URL at which everybody can read the object for a while."""
        url: str = self._client.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": self.options.bucket,
                "Key": self.key(name),
                "ResponseContentType": content_type,
                "ResponseContentDisposition": disposition,
                "ResponseCacheControl": "private, no-store",
            },
            ExpiresIn=self.options.redirect_expires,
        )
        return url

    # Uploads in parts

    async def create_upload(self, name: str) -> str:
        """Begin an upload in parts; give its id."""
        algorithm = self.checksum.named if self.checksum else {}
        answer = await self._call("create_multipart_upload", name, Key=self.key(name), **algorithm, **self._kept())
        return str(answer["UploadId"])

    def begin_part(self, name: str, upload: str, number: int, data: Buffer) -> "Future[Part]":
        """Begin to upload a part in a thread."""
        return self._moving.submit(self._upload_part, name, upload, number, data)

    def _upload_part(self, name: str, upload: str, number: int, data: Buffer) -> Part:
        digest = self.checksum.digest(data) if self.checksum else b""
        checked = self.checksum.arguments(digest) if self.checksum else {}
        arguments = {"Key": self.key(name), "UploadId": upload, "PartNumber": number, "Body": data, **checked}
        answer = self._ask("upload_part", name, arguments)
        return Part(number, plain(answer["ETag"]), len(data), digest)

    async def complete(self, name: str, upload: str, parts: Sequence[Part]) -> str:
        """Make an object of the parts; give its ETag."""
        of_part = self.checksum.of_part if self.checksum else lambda _: {}
        told = [{"PartNumber": part.number, "ETag": part.etag, **of_part(part.digest)} for part in parts]
        answer = await self._call(
            "complete_multipart_upload", name, Key=self.key(name), UploadId=upload, MultipartUpload={"Parts": told}
        )
        return plain(answer["ETag"])

    async def abort(self, name: str, upload: str) -> bool:
        """Forget an upload and its parts; tell whether there was one."""
        try:
            await self._call("abort_multipart_upload", name, Key=self.key(name), UploadId=upload)
        except FileNotFoundError:
            return False
        return True

    async def uploads(self, folder: str) -> AsyncIterator[tuple[str, str, datetime]]:
        """Go through unfinished uploads: name, id, time of the beginning."""
        more: dict[str, str] = {}
        prefix = self.key(folder)
        while True:
            answer = await self._call("list_multipart_uploads", folder, Prefix=prefix, **more)
            for one in answer.get("Uploads", ()):
                if one["Key"].startswith(prefix):
                    yield one["Key"].removeprefix(self.options.prefix), one["UploadId"], one["Initiated"]
            if not answer.get("IsTruncated"):
                return
            more = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}

    async def last_part(self, name: str, upload: str) -> datetime | None:
        """Tell when the newest part of an upload came; None: there is none."""
        newest: datetime | None = None
        more: dict[str, int] = {}
        while True:
            answer = await self._call("list_parts", name, Key=self.key(name), UploadId=upload, **more)
            times = [part["LastModified"] for part in answer.get("Parts", ())]
            newest = max(times + [newest] * (newest is not None), default=None)
            if not answer.get("IsTruncated"):
                return newest
            more = {"PartNumberMarker": answer["NextPartNumberMarker"]}

    def _kept(self) -> dict[str, str]:
        """Give how objects are kept."""
        options = self.options
        wanted = {
            "StorageClass": options.storage_class,
            "ServerSideEncryption": options.encryption,
            "SSEKMSKeyId": options.kms_key,
        }
        return {name: value for name, value in wanted.items() if value}


def plain(etag: str) -> str:
    """Give an ETag without its quotes: not every answer of every store has them."""
    return etag.strip('"')


def _client(options: Options) -> Any:
    for name in ("boto3", "botocore"):
        # What they say of each request when debugging holds signatures and presigned URLs.
        logging.getLogger(name).setLevel(logging.INFO)
    keys = _keys(options)
    session = boto3.Session(profile_name=None if keys else options.profile)
    return session.client(
        "s3",
        endpoint_url=options.endpoint,
        region_name=options.region or session.region_name or _DEFAULT_REGION,
        verify=str(options.ca_file) if options.ca_file else None,
        config=_config(options),
        **keys,
    )


def _config(options: Options) -> Config:
    return Config(
        signature_version="s3v4",
        # The body is part of what is signed over TLS too: the store compares it.
        s3={"addressing_style": options.addressing, "payload_signing_enabled": True},
        # Others than AWS answer with errors, or with checksums of something else.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": options.attempts},
        connect_timeout=options.connect_timeout,
        read_timeout=options.read_timeout,
        max_pool_connections=options.threads + _CONTROL_THREADS,
        tcp_keepalive=True,
    )


def _keys(options: Options) -> dict[str, str]:
    """Read the keys of a file; empty: the usual chain is to find some.

    Raises
    ------
    PermissionError
        They are not there.
    """
    if options.credentials is None:
        return {}
    parser = configparser.RawConfigParser()
    section = options.profile or "default"
    with options.credentials.open(encoding="utf-8") as file:
        try:
            parser.read_file(file)
        except configparser.Error:
            raise PermissionError(f"{options.credentials} is no file of credentials") from None
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    found = {name: parser.get(section, name) for name in names if parser.has_option(section, name)}
    if not set(names[:2]) <= set(found):
        raise PermissionError(f"{options.credentials}: [{section}] has no aws_access_key_id and aws_secret_access_key")
    return found
