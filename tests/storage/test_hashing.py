"""Digests as clients announce them."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from pyvospace.model.faults import ChecksumMismatch, InvalidArgument
from pyvospace.storage.hashing import Announced, Digests, announced

MD5, SHA256 = hashlib.md5(b"x").digest(), hashlib.sha256(b"x").digest()
B64_MD5, B64_SHA256 = base64.b64encode(MD5).decode(), base64.b64encode(SHA256).decode()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, Announced()),
        ({"Digest": f"md5={B64_MD5}"}, Announced(MD5)),
        ({"digest": f"MD5={B64_MD5} , unixsum=30637, SHA-256={B64_SHA256}"}, Announced(MD5, SHA256)),
        ({"Digest": f"md5={MD5.hex().upper()}"}, Announced(MD5)),
        ({"Repr-Digest": f"sha-256=:{B64_SHA256}:, md5=:{B64_MD5}:"}, Announced(MD5, SHA256)),
        ({"Content-Digest": f"sha-256=:{B64_SHA256}:"}, Announced(None, SHA256)),
        ({"Content-MD5": B64_MD5}, Announced(MD5)),
        ({"Content-MD5": MD5.hex(), "Digest": f"md5={B64_MD5}"}, Announced(MD5)),
        ({"Digest": "sha-512=whatever, crc32c=AAAA"}, Announced()),
        ({"Digest": ""}, Announced()),
        ({"Want-Digest": "md5"}, Announced()),
    ],
)
def test_announced(headers: dict[str, str], expected: Announced) -> None:
    assert announced(CIMultiDict(headers)) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"Digest": "md5="},
        {"Digest": "md5"},
        {"Digest": "md5=AAAA"},
        {"Digest": f"md5={B64_MD5}AAAA"},
        {"Digest": f"sha-256={B64_MD5}"},
        {"Content-MD5": ""},
        {"Content-MD5": "\u00e9"},
        {"Content-MD5": MD5.hex(), "Digest": f"md5={base64.b64encode(bytes(16)).decode()}"},
    ],
)
def test_no_digest(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        announced(CIMultiDict(headers))


@given(st.text(max_size=80), st.sampled_from(["Digest", "Repr-Digest", "Content-Digest", "Content-MD5"]))
def test_any_text_is_a_digest_or_not(text: str, header: str) -> None:
    try:
        found = announced({header: text})
    except InvalidArgument:
        return
    assert found.md5 is None or len(found.md5) == 16
    assert found.sha256 is None or len(found.sha256) == 32


def test_verify() -> None:
    actual = Digests(MD5, SHA256)
    Announced().verify(actual)
    Announced(MD5, SHA256).verify(actual)
    for wrong in (Announced(md5=bytes(16)), Announced(MD5, bytes(32))):
        with pytest.raises(ChecksumMismatch, match=r"^checksum mismatch"):
            wrong.verify(actual)
