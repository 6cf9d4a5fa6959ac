"""Which files are meant: patterns as rsync has them, of which the first that fits decides."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pyvospace.client.mirror.items import Names
from pyvospace.model.faults import InvalidArgument

_TOKENS: Final = re.compile(r"\*\*|\*|\?|\[!?\]?[^\]]*\]|\\.|.", re.DOTALL)
_ALL_BELOW: Final = "/***"


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern, and whether what it fits is wanted."""

    pattern: str
    wanted: bool


@dataclass(frozen=True, slots=True)
class Patterns:
    """Rules, in the order in which they were given.

    A name for which no rule fits is wanted. What is not wanted is not looked into, so that nothing below it is wanted
    either. Below a folder that goes, what is not wanted stays.
    """

    rules: tuple[Rule, ...] = ()

    def __bool__(self) -> bool:
        """Say whether there are any."""
        return bool(self.rules)

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> Patterns:
        """Check rules.

        Raises
        ------
        InvalidArgument
            A pattern is none.
        """
        made = cls(tuple(rules))
        for rule in made.rules:
            _compiled(rule.pattern)
        return made

    def want(self, path: Names, *, folder: bool) -> bool:
        """Say whether a path below the top is wanted."""
        if not self.rules:
            return True
        text = "/" + "/".join(path) + ("/" if folder else "")
        return next((rule.wanted for rule in self.rules if _compiled(rule.pattern).fullmatch(text)), True)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Make the expression that fits a whole path, which begins with a slash and ends with one if it is a folder.

    A pattern that begins with a slash begins at the top, another one behind any slash: one without a slash fits the
    last name, since no ``*`` goes over one. One that ends with a slash fits folders alone.
    """
    inner = pattern.removeprefix("/").removesuffix("***").rstrip("/")
    if not inner and pattern not in {"/***", "***"}:
        raise InvalidArgument(f"{pattern!r} is no pattern")
    begin = "/" if pattern.startswith("/") else ".*/"
    ends = {_ALL_BELOW[-1]: "/.*" if pattern.endswith(_ALL_BELOW) else "/?", "/": "/"}
    end = ends.get(pattern[-1:], "/?")
    try:
        return re.compile(begin + "".join(map(_translated, _TOKENS.findall(inner))) + end, re.DOTALL)
    except re.error:
        raise InvalidArgument(f"{pattern!r} is no pattern") from None


def _translated(token: str) -> str:
    known = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    if token in known:
        return known[token]
    if token.startswith("[") and len(token) > 1:
        inside = token[1:-1].replace("\\", "\\\\").replace("[", "\\[")
        return f"(?!/)[{'^' + inside[1:] if inside.startswith('!') else inside}]"
    return re.escape(token[1] if token.startswith("\\") and len(token) > 1 else token)
