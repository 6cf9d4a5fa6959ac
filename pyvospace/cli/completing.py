"""Completion of node paths by the shell: quick, and silent whatever happens."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, MutableMapping
from contextlib import aclosing, redirect_stdout, suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

import typer

if TYPE_CHECKING:
    from pyvospace.client import Access, Space
    from pyvospace.model.uris import NodeUri

VARIABLE: Final = "_PYVOSPACE_COMPLETE"
"""By this environment variable the script of a shell says what it wants."""
_PATIENCE: Final = 2.0
"""Seconds after which nothing is offered."""
_MOST: Final = 500
"""Names that are offered."""
_SCHEME: Final = "vos:"
_STARTS: Final = ("vos:", "vos:/")
"""Two, so that no shell takes the word for complete."""
_SPECIAL: Final = re.compile(r"[^\w.~+,=@-]")
"""What a shell or a URI would understand in its own way."""


def nodes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the nodes whose URIs begin so; nothing if that is no URI, or nobody answers in time."""
    if not incomplete.startswith(_SCHEME):
        return [one for one in _STARTS if incomplete and one.startswith(incomplete)]
    import asyncio

    from pyvospace.client.access import Access, find_spaces
    from pyvospace.client.locations import authority_of

    start = incomplete[: max(incomplete.rfind("/") + 1, len(_SCHEME))]
    with suppress(Exception):  # a shell that completes has nowhere to show an error
        given = {name: ctx.params.get(name) for name in ("url", "token", "ca_file")}
        access = find_spaces(Access(**given)).of(authority_of(start))
        return [start + one for one in asyncio.run(_offered(access, start, incomplete[len(start) :]))]
    return []


async def _offered(access: Access, start: str, begun: str) -> list[str]:
    import asyncio

    from pyvospace.client import Retry, Space

    async with asyncio.timeout(_PATIENCE), Space.of(access, retry=Retry(attempts=1)) as space:
        uri = await space.uri(start)
        found = await _children(space, uri, begun)
        if len(found) == 1 and found[0].endswith("/"):
            # The shell would take it for complete and write a space: so offer what is in it, too.
            below = await _children(space, uri.child(unquote(found[0][:-1])), "")
            found += [found[0] + one for one in below]
        return found


async def _children(space: Space, uri: NodeUri, begun: str) -> list[str]:
    """Give the names that begin so, as they are written behind what is written already."""
    from pyvospace.model.vocabulary import Detail, NodeType

    prefix, found = unquote(begun), list[str]()
    async with aclosing(space.list(uri, detail=Detail.MIN)) as children:
        async for child in children:
            name = child.uri.name
            if name.startswith(prefix):
                rest = _SPECIAL.sub(lambda one: quote(one[0], safe=""), name[len(prefix) :])
                found.append(f"{begun}{rest}{'/' if child.type is NodeType.CONTAINER else ''}")
            if len(found) == _MOST:
                break
    return found


def complete(run: Callable[[], int]) -> int:
    """Answer a shell, and give the exit code. Bash takes a colon for the end of a word: it gets what is behind."""
    import logging

    logging.disable()
    cut = join_words(os.environ) if os.environ[VARIABLE] == "complete_bash" else ""
    written, code = io.StringIO(), 0
    try:
        with redirect_stdout(written):
            code = run()
    except SystemExit as end:  # so the parser leaves; its code tells fish whether files are to be offered
        code = int(end.code or 0)
    for line in written.getvalue().splitlines():
        typer.echo(line.removeprefix(cut))
    return code


def join_words(environ: MutableMapping[str, str]) -> str:
    """Put the words of the line together that bash has cut at colons; give what of the current one is not for bash."""
    words, current = environ.get("COMP_WORDS", "").split("\n"), int(environ.get("COMP_CWORD") or 0)
    joined: list[str] = []
    here, cut = 0, ""
    for number, word in enumerate(words):
        glued = bool(joined) and (word == ":" or joined[-1] == _SCHEME)
        if number == current:
            cut = joined[-1] + (":" if word == ":" else "") if glued else ""
        joined = [*joined[:-1], joined[-1] + word] if glued else [*joined, word]
        if number <= current:
            here = len(joined) - 1
    environ["COMP_WORDS"], environ["COMP_CWORD"] = "\n".join(joined), str(here)
    return cut
