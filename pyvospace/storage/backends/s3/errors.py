"""What goes wrong at a store, in the words of the core. Nothing here tells a key or a signature."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    ProxyConnectionError,
    SSLError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from pyvospace.model.faults import InsufficientStorage, ServiceBusy

_FULL: Final = frozenset(
    {
        "QuotaExceeded",
        "XMinioStorageFull",
        "XMinioAdminBucketQuotaExceeded",
        "EntityTooLarge",  # what Swift's quotas become
        "InsufficientStorage",
    }
)
_MISSING: Final = frozenset({"NoSuchKey", "NoSuchUpload", "NoSuchBucket", "404", "NotFound"})
_REFUSED: Final = frozenset({"401", "403"})
_BUSY: Final = frozenset({429, 500, 502, 503, 504})
_FULL_STATUS: Final = 507


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise what the core understands for what botocore raises.

    Raises
    ------
    ServiceBusy
        The store does not answer, or asks to come again; botocore has tried often enough.
    InsufficientStorage
        It is full, or a quota is.
    FileNotFoundError
        There is no such key, upload or bucket.
    PermissionError
        The credentials are missing, wrong, or not enough.
    OSError
        All else.
    """
    try:
        yield
    except ClientError as error:
        raise _of_answer(what, error) from None
    except (NoCredentialsError, SSLError, ProxyConnectionError) as error:
        raise PermissionError(f"{what}: {error}") from None
    except (BotoConnectionError, HTTPClientError) as error:
        raise ServiceBusy("the store does not answer") from error
    except BotoCoreError as error:
        raise OSError(f"{what}: {error}") from None


def _of_answer(what: str, error: ClientError) -> Exception:
    told, answer = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
    code, status = told.get("Code", ""), answer.get("HTTPStatusCode", 0)
    text = f"{what}: {status} {code} {told.get('Message', '')}".rstrip()
    if code in _FULL or status == _FULL_STATUS:
        return InsufficientStorage("the store is full")
    if status in _BUSY:
        return ServiceBusy("the store is busy")
    if code in _MISSING:
        return FileNotFoundError(text)
    return PermissionError(text) if str(status) in _REFUSED else OSError(text)


def code_of(error: ClientError) -> tuple[str, int]:
    """Give the code of S3 and the status of an answer."""
    response = error.response
    return response.get("Error", {}).get("Code", ""), response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
