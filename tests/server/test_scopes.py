"""Tokens that may a part of what their user may: nothing outside of their places, nothing beyond their rights."""

from __future__ import annotations

import pytest

from pyvospace.model.callers import Scope
from pyvospace.model.faults import InvalidArgument


@pytest.mark.parametrize(
    ("paths", "rights", "packed"),
    [
        ([], ["read"], {"paths": ["/"], "rights": ["read"]}),
        (
            ["/home/a b", "home/c%2Bd/"],
            ["write", "read"],
            {"paths": ["/home/a%20b", "/home/c%2Bd"], "rights": ["read", "write"]},
        ),
    ],
)
def test_a_scope_is_kept_as_json(paths: list[str], rights: list[str], packed: dict[str, list[str]]) -> None:
    scope = Scope.parse(paths, rights)
    assert Scope.unpack(scope.pack()) == scope
    assert sorted(scope.pack()["rights"]) == packed["rights"]


@pytest.mark.parametrize(("paths", "rights"), [([], []), ([], ["all"]), (["/../x"], ["read"]), (["/a//b"], ["read"])])
def test_a_scope_that_is_none_is_refused(paths: list[str], rights: list[str]) -> None:
    with pytest.raises(InvalidArgument):
        Scope.parse(paths, rights)


def test_a_place_covers_what_is_below_it_and_nothing_beside_it() -> None:
    scope = Scope.parse(["/home/alice/data"], ["read"])
    assert scope.covers(("home", "alice", "data"))
    assert scope.covers(("home", "alice", "data", "x", "y"))
    assert not scope.covers(("home", "alice"))
    assert not scope.covers(("home", "alice", "data2"))
