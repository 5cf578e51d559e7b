"""Image references: docker's short forms, what they stand for, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocontainer.errors import InvalidInput
from nanocontainer.image.reference import familiar, is_digest, parse_reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("given_text", "full", "short"),
    [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("a/b/c:x", "docker.io/a/b/c:x", "a/b/c:x"),
        ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("index.docker.io/user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("docker.io/library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),  # a name and a tag
        ("example.com/a:b", "example.com/a:b", "example.com/a:b"),
        ("EXAMPLE/a", "EXAMPLE/a:latest", "EXAMPLE/a:latest"),  # upper case can only be a host
        ("[::1]:5000/a/b", "[::1]:5000/a/b:latest", "[::1]:5000/a/b:latest"),
        ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest", "127.0.0.1:5000/a:latest"),
        (f"alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}", f"alpine@{DIGEST}"),
        (f"alpine:3@{DIGEST}", f"docker.io/library/alpine:3@{DIGEST}", f"alpine:3@{DIGEST}"),
        ("a__b/c.d-e---f:T_.-1", "docker.io/a__b/c.d-e---f:T_.-1", "a__b/c.d-e---f:T_.-1"),
        ("docker.io/foo.bar/x", "docker.io/foo.bar/x:latest", "docker.io/foo.bar/x:latest"),  # foo.bar/x is a host's
    ],
)
def test_short_and_full(given_text: str, full: str, short: str) -> None:
    reference = parse_reference(given_text)
    assert str(reference) == full
    assert reference.familiar == short
    assert parse_reference(short) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "/",
        "@",
        ":tag",
        "Alpine",
        "user/App",
        "a//b",
        "a/",
        "/a",
        "-a",
        "a-",
        "a..b",
        "a___b",
        "a._b",
        "a b",
        "a:",
        "a:-x",
        "a:" + "x" * 129,
        "a@",
        "a@sha256:12",
        "a@sha512:" + "0" * 128,
        f"a@{DIGEST.upper()}",
        "a:b:c",
        "ä",
        "a\0",
        "example.com/",
        "host:port/a",
        "host:99999/a",
        "host:/a",
        ".com/a",
        "ex-.com/a",
        "[::1/a",
        "0" * 64,
        "a" * 250,
        "localhost:5000/a:b/c",
        "https://example.com/a",
        "a%b",
        "../a",
        "a/../b",
        "[]:1/a",
        "x.com:٣/a",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_reference(text)


def test_a_wrong_name_is_explained() -> None:
    with pytest.raises(InvalidInput) as told:
        parse_reference("Alpine")
    assert "lower case" in told.value.why
    with pytest.raises(InvalidInput) as told:
        parse_reference("0" * 64)
    assert "image id" in told.value.why


@given(st.text(max_size=300))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidInput:
        return
    assert parse_reference(str(reference)) == reference
    assert familiar(str(reference)) == reference.familiar


COMPONENT = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,3}", fullmatch=True)
HOST = st.one_of(
    st.just(""),
    st.just("localhost/"),
    st.from_regex(r"[a-z0-9]{1,9}(\.[a-z0-9]{1,5}){1,2}(:[1-9][0-9]{0,3})?/", fullmatch=True),
)
TAG = st.one_of(st.just(""), st.from_regex(r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}", fullmatch=True))


@given(HOST, st.lists(COMPONENT, min_size=1, max_size=4), TAG, st.booleans())
def test_what_the_grammar_allows_goes_there_and_back(host: str, path: list[str], tag: str, digest: bool) -> None:
    if "." in path[0]:
        host = host or "docker.io/"  # else it would be a host itself
    reference = parse_reference(host + "/".join(path) + tag + (f"@{DIGEST}" if digest else ""))
    assert parse_reference(str(reference)) == reference
    assert parse_reference(reference.familiar) == reference
    assert "%" not in str(reference)  # the store writes "/" so
    assert reference.tag or reference.digest


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "g" * 64, "sha256:" + "A" * 64, "sha256:../" + "a" * 61, DIGEST + "0"]
)
def test_no_digest(text: str) -> None:
    assert not is_digest(text)
