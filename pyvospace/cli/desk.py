"""Where commands of administration ask: at the service, or at its database. Both take the same requests."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import fields
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, get_type_hints
from urllib.parse import quote

import typer

from pyvospace.cli.reach import ConfigOption, DataOption, Reach
from pyvospace.cli.space_commands import CaOption, TokenOption, UrlOption

if TYPE_CHECKING:
    from pyvospace.client.administration import Administration

    T = TypeVar("T")

_OPTIONS: Final = {
    "config": ConfigOption,
    "data": DataOption,
    "url": UrlOption,
    "token": TokenOption,
    "ca_file": CaOption,
}
_PAGE: Final = "1000"


class Desk(Protocol):
    """Answers requests for the resources of JSON."""

    async def ask(self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None) -> Any:
        """Give the JSON of the answer."""
        ...


def reaching(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, in place of its parameter `reach`, the options that say what it reaches."""
    known, hints = inspect.signature(command), get_type_hints(command, include_extras=True)
    own = [one.replace(annotation=hints[name]) for name, one in known.parameters.items() if name != "reach"]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in _OPTIONS.items()
    ]

    @wraps(command)
    def run(**given: Any) -> None:
        reach = Reach(**{one.name: given.pop(one.name) for one in fields(Reach)})
        command(**given, reach=reach)

    run.__signature__ = known.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in (*own, *options)}
    return run


def at_desk(reach: Reach, action: Callable[[Desk], Awaitable[T]]) -> T:
    """Ask something where the options, or else the environment, say."""

    async def run() -> T:
        if reach.at_database():
            from pyvospace.supervisor.operator import operator

            async with operator(reach.config, reach.data) as desk:
                return await action(desk)
        async with _service(reach) as desk:
            return await action(desk)

    return asyncio.run(run())


def uri(reach: Reach, text: str) -> str:
    """Read a URI in any of its forms, of the space at the service."""

    async def run() -> str:
        async with _service(reach) as service:
            return str(await service.uri(text))

    return asyncio.run(run())


def _service(reach: Reach) -> Administration:
    from pyvospace.client.access import Access, find_spaces
    from pyvospace.client.administration import Administration

    options = Access(url=reach.url, token=reach.token, ca_file=reach.ca_file)
    return Administration.of(find_spaces(options).default)


def ask(reach: Reach, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None) -> Any:
    """Send one request."""
    return at_desk(reach, lambda desk: desk.ask(method, path, query=query, body=body))


def write_list(
    reach: Reach,
    path: str,
    line: Callable[[Any], str],
    *,
    query: Mapping[str, str] | None = None,
    as_json: bool,
) -> None:
    """Write a list as it comes, page by page."""

    async def work(desk: Desk) -> None:
        async for one in _items(desk, path, query or {}):
            write(one, line, as_json=as_json)

    at_desk(reach, work)


async def _items(desk: Desk, path: str, query: Mapping[str, str]) -> AsyncIterator[Any]:
    after = ""
    while after is not None:
        page = await desk.ask("GET", path, query={**query, "limit": _PAGE, **({"after": after} if after else {})})
        for one in page["items"]:
            yield one
        after = page["next"]


def write(found: Any, line: Callable[[Any], str], *, as_json: bool) -> None:
    """Write what was found as a line, or as JSON."""
    typer.echo(json.dumps(found, ensure_ascii=False) if as_json else printable_lines(line(found)))


def printable_lines(text: str) -> str:
    """Take out of some lines, with tabs in them, what a terminal might obey."""
    from pyvospace.cli.session import printable

    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def place(name: str) -> str:
    """Write a name into a path."""
    return quote(name, safe="")
