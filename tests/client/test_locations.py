from __future__ import annotations

import pytest

from pyvospace.client.locations import authority_of, is_uri, resolve
from pyvospace.model.faults import InvalidURI
from pyvospace.model.uris import NodeUri


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("vos:", ("home", "me")),
        ("vos:x", ("home", "me", "x")),
        ("vos:x/y z", ("home", "me", "x", "y z")),
        ("vos:x%20y/%25", ("home", "me", "x y", "%")),
        ("vos:x/", ("home", "me", "x")),
        ("VOS:x", ("home", "me", "x")),
        ("vos:/", ()),
        ("vos:/x", ("x",)),
        ("vos://a~b", ()),
        ("vos://A!b/x", ("x",)),
    ],
)
@pytest.mark.parametrize("home", ["/home/me", "home/me/", "vos://a~b/home/me"])
def test_forms(text: str, path: tuple[str, ...], home: str) -> None:
    assert is_uri(text)
    assert resolve(text, "a~b", home) == NodeUri("a~b", path)


@pytest.mark.parametrize(
    "text", ["x", "/x", "file:x", "vos:../x", "vos:a?b", "vos:a#b", "vos:a//b", "vos://", "vos:%zz"]
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(InvalidURI):
        resolve(text, "a~b", "/home/me")


def test_there_may_be_no_home() -> None:
    assert resolve("vos:/x", "a~b", None) == NodeUri("a~b", ("x",))
    with pytest.raises(InvalidURI, match="VOSPACE_HOME"):
        resolve("vos:x", "a~b", None)


def test_authorities() -> None:
    assert authority_of("vos:x") is None
    assert authority_of("vos:/x") is None
    assert authority_of("vos://A!b/x") == "a~b"
