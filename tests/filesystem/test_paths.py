"""What URLs and paths mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvospace.filesystem import VOSpaceFileSystem
from pyvospace.filesystem.paths import names_of, path_of, url_of
from pyvospace.model.faults import InvalidURI
from tests.support.strategies import names


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("vos://example.org~space/home/x", "example.org~space/home/x"),
        ("pyvospace://Example.org!space/home/x/", "example.org~space/home/x"),
        ("pyvospace:///home/x", "/home/x"),
        ("vos://example.org~space", "example.org~space"),
        ("pyvospace://", "/"),
        ("", "/"),
        ("/home//x/", "/home/x"),
        ("vos:///home/a%20b%25", "/home/a b%"),
        ("vos:///home/a b/100%", "/home/a b/100%"),
        ("/home/a%20b", "/home/a%20b"),
        ("pyvospace:///home/*/[ab]?.fits", "/home/*/[ab]?.fits"),
        ("vos::/home/x", "/home/x"),
    ],
)
def test_urls(url: str, path: str) -> None:
    assert path_of(url) == path
    assert VOSpaceFileSystem._strip_protocol([url]) == [path]


@given(st.sampled_from(["", "example.org~space"]), st.lists(names, max_size=3))
def test_urls_and_paths_mean_each_other(authority: str, parts: list[str]) -> None:
    path = path_of("/".join([authority, *parts]))
    assert path_of(path) == path
    assert path_of(url_of(path)) == path
    assert url_of(url_of(path)) == url_of(path)
    assert names_of(path) == (authority or None, tuple(parts))


def test_urls_are_readable() -> None:
    assert url_of("/home/größe b#1?.csv") == "pyvospace:///home/größe b#1?.csv"
    assert url_of("space/100%/%41") == "pyvospace://space/100%/%2541"


@pytest.mark.parametrize(
    ("path", "above"),
    [("/home/x", "/home"), ("/home", "/"), ("/", "/"), ("space/x", "space"), ("space", "space")],
)
def test_what_is_above(path: str, above: str) -> None:
    assert VOSpaceFileSystem._parent(path) == above


@pytest.mark.parametrize("url", ["vos://me:secret@host/x", "vos://secret@host/x", "pyvospace://a b/x"])
def test_urls_that_name_no_space(url: str) -> None:
    with pytest.raises(ValueError, match=r"belong|authority") as caught:
        path_of(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["vos:///a%2Fb", "vos:///a%FF", "pyvospace://host:8443/x"])
def test_urls_that_name_no_node(url: str) -> None:
    with pytest.raises(ValueError, match=r"slash|encoded|endpoint_url"):
        path_of(url)


@pytest.mark.parametrize("path", ["/home/../x", "/./x", "/a\x00b", "/" + "x" * 256, "/x" * 201, "no space/x"])
def test_paths_that_no_node_has(path: str) -> None:
    with pytest.raises(InvalidURI):
        names_of(path)
