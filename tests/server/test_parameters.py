"""Parameters of requests: what is plain is read without the library, to the same effect."""

from __future__ import annotations

from urllib.parse import parse_qsl

from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from pyvospace.server.handlers.requests import parameters


@given(st.text(st.sampled_from("aB_1=&%20+;.-:/#é?"), max_size=12))
def test_plain_parameters_are_read_as_any_other(query: str) -> None:
    request = make_mocked_request("GET", f"/nodes?{query}")
    expected: dict[str, list[str]] = {}
    for name, value in parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True):
        expected.setdefault(name.upper(), []).append(value)
    assert parameters(request) == expected
