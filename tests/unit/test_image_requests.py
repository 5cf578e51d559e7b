"""What servers say in headers: parsed, whatever they say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocontainer.errors import InvalidInput, NanoError
from nanocontainer.image.manifest import parse_config, parse_manifest
from nanocontainer.image.reference import is_short, parse_reference
from nanocontainer.image.registry import next_page, retry_after, said
from nanocontainer.image.tokens import Token
from nanocontainer.image.transport import is_insecure, same_host

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5.0), (" 120 ", 120.0), ("0", 0.0), ("", 0.0), ("-5", 0.0), ("soon", 0.0), ("1.5", 0.0), ("²", 0.0),
        ("9" * 400, 999_999_999.0), ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0), ("Tue, 14 Nov 2023 22:13:00 GMT", 0.0),
        ("Tuesday, 14-Nov-23 22:13:50 GMT", 30.0), ("Tue, 99 Nov 2023 22:13:50 GMT", 0.0),
    ],
)  # fmt: skip
def test_retry_after(text: str, seconds: float) -> None:
    assert retry_after(text, NOW) == seconds


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ('</v2/a/tags/list?last=x&n=5>; rel="next"', "/v2/a/tags/list?last=x&n=5"), ("<x>; rel=next", "x"),
        ("", ""), ("<x>", ""), ('<x>; rel="prev"', ""), ('<x>; rel="prev next"', "x"), ("<x; rel=next", ""),
        ('<p>; rel="prev", <n>; title="a, b"; REL="Next"', "n"), ("rel=next", ""), ("<<<>>>; rel=next", "<<"),
    ],
)  # fmt: skip
def test_next_page(header: str, address: str) -> None:
    assert next_page(header) == address


@given(st.text('<>;=", relnxtp/', max_size=80))
def test_any_link_is_survived(text: str) -> None:
    assert next_page(text) in text


@given(st.text(max_size=40))
def test_any_date_is_survived(text: str) -> None:
    assert retry_after(text, NOW) >= 0


@given(st.binary(max_size=100))
def test_any_error_answer_is_survived(data: bytes) -> None:
    assert said(data).isprintable()


_LEAVES = st.none() | st.integers() | st.text(max_size=5)
_ERRORS = st.sampled_from(["errors", "message", "details", "code"])


@given(st.recursive(_LEAVES, lambda one: st.lists(one, max_size=3) | st.dictionaries(_ERRORS, one, max_size=3)))
def test_any_error_document_is_survived(fields: object) -> None:
    assert said(json.dumps(fields).encode()).isprintable()


_WORDS = st.sampled_from(
    "schemaVersion mediaType config layers manifests size digest platform os architecture annotations urls rootfs "
    "diff_ids artifactType variant".split()
)
_VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.just("sha256:" + "a" * 64)


@given(st.recursive(_VALUES, lambda one: st.lists(one, max_size=3) | st.dictionaries(_WORDS, one, max_size=5)))
def test_any_manifest_is_read_or_refused(fields: object) -> None:
    data = json.dumps(fields).encode()
    for read in (lambda: parse_manifest(data, "", "x"), lambda: parse_config(data)):
        try:
            read()
        except NanoError:
            pass


@given(st.text("abAZ09./:@_-[]", max_size=40))
def test_a_reference_is_itself_again(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidInput:
        return
    assert parse_reference(str(reference)) == reference
    assert parse_reference(reference.familiar) == reference
    if is_short(text):
        assert reference.host == "docker.io"


def test_hosts() -> None:
    assert same_host("https://a.b/x", "https://A.B:443/y")
    assert same_host("http://a.b", "http://a.b:80/")
    for other in ("http://a.b/x", "https://a.b:444/x", "https://c.a.b/", "https://a.b@evil/", "https://evil/?a.b"):
        assert not same_host("https://a.b/x", other)
    assert is_insecure("127.0.0.1:5000") and not is_insecure("example.com")
    assert not is_insecure("127.0.0.1:5000", verify=True)
    assert is_insecure("example.com", verify=False)


def test_tokens_end() -> None:
    token = Token("Bearer x", {}, 100.0)
    assert not token.is_old(99.0)
    assert token.is_old(101.0)
