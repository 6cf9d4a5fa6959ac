"""Node URIs."""

import re
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvospace.model.faults import InvalidURI
from pyvospace.model.uris import (
    MAX_DEPTH,
    NodeUri,
    check_name,
    decode_name,
    decode_path,
    encode_path,
    encode_uri,
    normalise_authority,
    same_node,
)
from tests.support.strategies import AUTHORITY, names, node_uris, paths

# Names


@given(names)
def test_every_name_round_trips(name: str) -> None:
    assert check_name(name) == name
    assert decode_name(encode_path((name,))) == name
    assert decode_name(quote(name, safe="")) == name


@given(names)
def test_encoded_names_need_no_escape_anywhere(name: str) -> None:
    encoded = encode_path((name,))
    assert encoded.isascii()
    assert not set(encoded) & set(' "<>\\^`{|}&?#/[]')
    assert urlsplit(f"https://example.org/{encoded}").path == f"/{encoded}"


@given(st.text())
def test_any_text_is_a_name_or_a_fault(text: str) -> None:
    try:
        assert check_name(text) == text
    except InvalidURI:
        bad = {"", ".", ".."}
        assert text in bad or "/" in text or len(text.encode("utf-8", "replace")) > 255 or not text.isprintable()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/", "a\x00", "\n", "\x1f", "\x7f", "\ud800", "a" * 256, "é" * 128, "€" * 86]
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InvalidURI):
        check_name(name)


@pytest.mark.parametrize("name", ["...", ".a", "a.", "a" * 255, "é" * 127, "€" * 85, "a\\b", "\u202e", "%2F", ".auto"])
def test_odd_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "segment",
    [
        "%2F",
        "%2f",
        "a%2Fb",
        "%",
        "%4",
        "%zz",
        "a%",
        "%00",
        "%0A",
        "%7F",
        "%2E",
        "%2e%2E",
        "%FF",
        "%C3",
        "%ED%A0%80",
        "%C0%AF",
        "%E0%80%AF",
        "%F4%90%80%80",
        "%u0041",
        "",
    ],
)
def test_segments_that_are_none(segment: str) -> None:
    with pytest.raises(InvalidURI):
        decode_name(segment)


def test_segments_are_decoded_once() -> None:
    assert decode_name("%252F") == "%2F"
    assert decode_name("a+b") == "a+b"
    assert decode_name("%41") == decode_name("A")
    assert decode_name("é%20") == "é "


# Paths


@given(paths)
def test_every_path_round_trips(path: tuple[str, ...]) -> None:
    assert decode_path(encode_path(path)) == path
    assert decode_path(f"/{encode_path(path)}/") == path


@pytest.mark.parametrize(
    "path", ["a//b", "//a", "a//", "/..", "a/../b", "a/./b", "a/%2e%2e/b", "a/b%2Fc", "a/\x00", "/a//"]
)
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(InvalidURI):
        decode_path(path)


def test_paths_have_an_end() -> None:
    assert len(decode_path("/a" * MAX_DEPTH)) == MAX_DEPTH
    with pytest.raises(InvalidURI, match="deeper"):
        decode_path("/a" * (MAX_DEPTH + 1))


@given(st.text(st.sampled_from("ab.~%20/ é"), max_size=9) | st.sampled_from(["a" * 255, "a" * 256, "b/" + "a" * 256]))
def test_plain_paths_are_decoded_as_any_other(path: str) -> None:
    inner = path.removeprefix("/").removesuffix("/")
    try:
        expected = tuple(map(decode_name, inner.split("/"))) if inner else ()
    except InvalidURI as fault:
        with pytest.raises(InvalidURI, match=f"^{re.escape(str(fault))}$"):
            decode_path(path)
    else:
        assert decode_path(path) == expected


@given(paths)
def test_plain_paths_are_encoded_as_any_other(path: tuple[str, ...]) -> None:
    assert encode_path(path) == "/".join([quote(name, safe="-._~!$'()*+,;=:@") for name in path])


@pytest.mark.parametrize("path", ["", "/"])
def test_root(path: str) -> None:
    assert decode_path(path) == ()


# URIs


@given(node_uris)
def test_every_uri_round_trips(uri: NodeUri) -> None:
    text = str(uri)
    assert NodeUri.parse(text) == uri
    assert text.isascii()
    assert encode_uri(text) == text
    assert NodeUri.parse(f"{text}?query") == NodeUri.parse(f"{text}#fragment") == NodeUri.parse(f"{text}?a#b?c") == uri


@given(st.text())
def test_any_text_is_a_uri_or_a_fault(text: str) -> None:
    for one in (text, f"vos://{text}", f"vos://{AUTHORITY}/{text}"):
        try:
            uri = NodeUri.parse(one)
        except InvalidURI:
            continue
        assert NodeUri.parse(str(uri)) == uri


@given(st.text())
def test_faults_are_short(text: str) -> None:
    with pytest.raises(InvalidURI) as caught:
        NodeUri.parse(f"x{text * 1000}")
    assert len(str(caught.value)) < 4000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vos:",
        "vos:/",
        "vos:///a",
        "vos://",
        "http://x~y/a",
        "ivo://x/y",
        "vos:x~y/a",
        "//x~y/a",
        " vos://x~y/a",
        "vos://x y/a",
        "vos://x:80/a",
        "vos://u@x/a",
        "vos://~x/a",
        "vos://é/a",
        "vos://x%41/a",
        "vos://[::1]/a",
    ],
)
def test_uris_that_are_none(text: str) -> None:
    with pytest.raises(InvalidURI):
        NodeUri.parse(text)


def test_authorities() -> None:
    """A-01: ``~`` is written, both are read, without regard to case."""
    assert normalise_authority("Example.org!A!b") == "example.org~a~b"
    assert str(NodeUri.parse("VOS://Example.org!vospace/A")) == "vos://example.org~vospace/A"
    assert NodeUri.parse("vos://x!y/a") == NodeUri.parse("vos://X~Y/a/")
    assert NodeUri.parse("vos://x~y/a") != NodeUri.parse("vos://x~y/A")


def test_a_percent_sign_that_vos_sent_raw() -> None:
    assert NodeUri.parse("vos://x~y/100%/50%.txt").path == ("100%", "50%.txt")
    assert NodeUri.parse("vos://x~y/a%20b %zz").path == ("a b %zz",)
    with pytest.raises(InvalidURI):
        NodeUri.parse("vos://x~y/a%2Fb%")


def test_relations() -> None:
    root = NodeUri("x~y")
    node = root.child("a b").child("c")
    assert (node.name, str(node.parent), str(node)) == ("c", "vos://x~y/a%20b", "vos://x~y/a%20b/c")
    assert (root.name, root.parent, str(root)) == ("", root, "vos://x~y")


# URIs of documents


@given(node_uris)
def test_same_node_in_both_writings(uri: NodeUri) -> None:
    raw = "/".join([f"vos://{uri.authority}", *uri.path])
    assert same_node(str(uri), uri)
    assert same_node(f"{uri}/", uri)
    assert same_node(raw, uri)
    assert same_node(raw.replace("~", "!", 1), uri)


@given(node_uris, node_uris)
def test_another_node(uri: NodeUri, other: NodeUri) -> None:
    raw = "/".join([f"vos://{uri.authority}", *uri.path])
    if other not in {uri, NodeUri(uri.authority, tuple(map(unquote, uri.path)))} and not set("?#%") & set(raw):
        assert not same_node(str(uri), other)
        assert not same_node(raw, other)


@given(st.text(), node_uris)
def test_same_node_never_fails(text: str, uri: NodeUri) -> None:
    same_node(text, uri)
    assert not same_node(f"http://{text}", uri)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("vos://x~y/a%20b", True),
        ("vos://x~y/a b", True),
        ("vos://x~y/a%2520b", False),
        ("vos://z/a b", False),
        ("vos://x~y/a b/c", False),
        ("vos://x~y", False),
        ("", False),
    ],
)
def test_same_node(text: str, *, same: bool) -> None:
    assert same_node(text, NodeUri("x~y", ("a b",))) == same


def test_same_node_of_names_like_escapes() -> None:
    """A raw ``a%20b`` is a name too, and the URL decides."""
    assert same_node("vos://x~y/a%20b", NodeUri("x~y", ("a%20b",)))
    assert same_node("vos://x~y/100%", NodeUri("x~y", ("100%",)))
    assert same_node("vos://x~y/what?#1", NodeUri("x~y", ("what?#1",)))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_encoded_uris(text: str) -> None:
    encoded = encode_uri(text)
    assert encoded.isascii()
    assert not set(encoded) & set(' "<>\\^`{|}')
    assert encode_uri(encoded) == encoded
    assert unquote(encoded) == unquote(text)
