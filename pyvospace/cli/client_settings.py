"""What `config client` shows: where commands find spaces and users, and how they behave."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pyvospace.cli.defaults import defaults
from pyvospace.client.access import Access, find_spaces
from pyvospace.client.logins import StoredLogin, file


def facts() -> dict[str, Any]:
    """Give the settings in effect, without secrets."""
    spaces = find_spaces(Access())
    access = spaces.default
    return {
        "file": str(spaces.file),
        "logins": str(file()),
        "url": access.url,
        "authority": access.authority,
        "home": access.home,
        "ca_file": None if access.ca_file is None else str(access.ca_file),
        "user": access.user,
        "credential": _credential(access),
        "spaces": ", ".join(sorted(spaces.others)) or None,
        **asdict(defaults()),
    }


def _credential(access: Access) -> str | None:
    """Name the kind of credential that is sent; None: nobody logs in."""
    if access.token is not None:
        return "token"
    if access.authorization() is not None:
        return "password"
    return "login" if access.url is not None and StoredLogin.find(access.url) else None
