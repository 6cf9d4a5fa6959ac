"""Options of the Azure backend, and the client that they describe."""

import logging
import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from azure.core.credentials import AzureNamedKeyCredential
from azure.storage.blob.aio import ContainerClient, ExponentialRetry

MIB: Final = 1 << 20
_REQUESTS: Final = logging.getLogger("azure.core.pipeline.policies.http_logging_policy")
"""Has a dozen lines to say of each request, at the level of our own news."""
_CONTAINER: Final = re.compile("[a-z0-9](?:-?[a-z0-9]){2,62}")
_PREFIX: Final = re.compile("(?:[A-Za-z0-9][A-Za-z0-9._-]{0,63}/){0,8}")
_LARGEST_BLOCK: Final = 100 * MIB
"""The service takes more, but all blocks under way are in memory."""
_MOST_AT_ONCE: Final = 64
_LONGEST_TIMEOUT: Final = 3600
_LONGEST_REDIRECT: Final = 3600
_CONNECTING: Final = 20
"""Seconds; the time-out of an established connection is an option."""
_TRIES: Final = 3
_FIRST_WAIT: Final = 1
"""Seconds before the first of them."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where the account is, and how we prove that it is ours; the key is nothing to print."""

    url: str = ""
    name: str = ""
    key: str = field(default="", repr=False)
    connection_string: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class AzureSettings:
    """What ``[storage.options]`` says; sizes in bytes, times in seconds."""

    account: Account
    container: str
    prefix: str
    block_size: int
    concurrency: int
    timeout: int
    capacity: int | None
    verify_reads: bool
    redirect: bool
    redirect_lifetime: int

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Self:
        """Read the options.

        Raises
        ------
        ValueError
            One is wrong, or there are some that nobody knows; the text names it, and never the value of a secret.
        """
        rest = _Options(options)
        account = _account(rest)
        settings = cls(
            account=account,
            container=rest.matching("container", _CONTAINER, "3 to 63 of a-z, 0-9 and single hyphens"),
            prefix=rest.matching("prefix", _PREFIX, "folders of letters, digits, ., _ and -, each ending in /", ""),
            block_size=rest.number("block_size", 8 * MIB, 64 * 1024, _LARGEST_BLOCK),
            concurrency=rest.number("concurrency", 4, 1, _MOST_AT_ONCE),
            timeout=rest.number("timeout", 60, 1, _LONGEST_TIMEOUT),
            capacity=rest.number("capacity", 0, 0, 1 << 62) or None,
            verify_reads=rest.truth("verify_reads"),
            redirect=rest.truth("redirect"),
            redirect_lifetime=rest.number("redirect_lifetime", 300, 1, _LONGEST_REDIRECT),
        )
        rest.require_none_left()
        if settings.redirect and not account.key:
            raise ValueError("storage.options.redirect: URLs can be signed with an account key only")
        return settings


class _Options:
    """Options that are taken out one by one."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self._left = dict(options)

    def text(self, name: str, default: str = "") -> str:
        return self._left.pop(name, default)

    def matching(self, name: str, pattern: re.Pattern[str], words: str, default: str | None = None) -> str:
        value = self._left.pop(name, default)
        if value is None or not pattern.fullmatch(value):
            raise ValueError(f"storage.options.{name}: write {words}")
        return value

    def number(self, name: str, default: int, least: int, most: int) -> int:
        value = self._left.pop(name, str(default))
        if not value.isascii() or not value.isdecimal() or not least <= int(value[:20]) <= most:
            raise ValueError(f"storage.options.{name}: write a whole number from {least} to {most}")
        return int(value)

    def truth(self, name: str) -> bool:
        value = self._left.pop(name, "false")
        if value not in {"true", "false"}:
            raise ValueError(f'storage.options.{name}: write "true" or "false"')
        return value == "true"

    def secret(self, name: str) -> str:
        """Read the file that the option names; empty without the option."""
        file = self._left.pop(name, "")
        if not file:
            return ""
        try:
            content = Path(file).expanduser().read_text(encoding="ascii").strip()
        except (OSError, UnicodeError) as error:
            raise ValueError(f"storage.options.{name}: {file} cannot be read: {type(error).__name__}") from None
        if not content:
            raise ValueError(f"storage.options.{name}: {file} is empty")
        return content

    def require_none_left(self) -> None:
        for option in self._left:
            raise ValueError(f"storage.options.{option}: the azure backend has no such option")


def _account(options: _Options) -> Account:
    """Find the one way in which the account is given."""
    connection, key = options.secret("connection_string_file"), options.secret("account_key_file")
    url, name = options.text("account_url").rstrip("/"), options.text("account")
    if connection:
        if key or url or name:
            raise ValueError(
                "storage.options.connection_string_file: it says all of account, account_url and account_key_file"
            )
        return _of_connection_string(connection)
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
        raise ValueError("storage.options.account_url: write https://NAME.blob.core.windows.net, or give another file")
    if not key and parts.scheme != "https":
        raise ValueError("storage.options.account_url: a token may be sent over https only")
    return Account(url=url, name=name or parts.hostname.partition(".")[0], key=key)


def _of_connection_string(text: str) -> Account:
    parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    if not {"AccountName", "BlobEndpoint", "UseDevelopmentStorage"} & parts.keys():
        raise ValueError("storage.options.connection_string_file: this is no connection string of Azure")
    return Account(name=parts.get("AccountName", ""), key=parts.get("AccountKey", ""), connection_string=text)


def connect(settings: AzureSettings, stack: AsyncExitStack) -> ContainerClient:
    """Make the client, to be closed with `stack`; nothing is sent yet.

    What may be over in a moment is tried again three times, some seconds apart: the bytes of a block or a piece
    are at hand, so nobody else needs to know.
    """
    behaviour: dict[str, Any] = {
        "retry_policy": ExponentialRetry(
            initial_backoff=_FIRST_WAIT, increment_base=2, retry_total=_TRIES, random_jitter_range=1
        ),
        "connection_timeout": min(settings.timeout, _CONNECTING),
        "read_timeout": settings.timeout,
        "max_single_get_size": settings.block_size,
    }
    account = settings.account
    if account.connection_string:
        client = ContainerClient.from_connection_string(account.connection_string, settings.container, **behaviour)
    else:
        client = ContainerClient(account.url, settings.container, credential=_credential(account, stack), **behaviour)
    stack.push_async_exit(client)
    if _REQUESTS.level == logging.NOTSET:
        _REQUESTS.setLevel(logging.WARNING)
    return client


def _credential(account: Account, stack: AsyncExitStack) -> Any:
    if account.key:
        return AzureNamedKeyCredential(account.name, account.key)
    credential = import_module("azure.identity.aio").DefaultAzureCredential()
    stack.push_async_exit(credential)
    return credential
