"""Credentials: where they are read, in which order, and how challenges are understood."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocontainer.errors import InvalidInput
from nanocontainer.image.auth import Credentials, find_credentials, parse_challenges


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    return tmp_path


def entry(user: str, secret: str = "secret") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{secret}".encode()).decode()}


def write(path: Path, data: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return str(path)


def user(host: str = "example.com", path: str = "a/b", authfile: str = "") -> str:
    found = find_credentials(host, path, authfile)
    return found.user if found else ""


def test_nothing_stored() -> None:
    assert find_credentials("example.com", "a") is None


def test_order_of_files(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / ".docker/config.json", {"auths": {"example.com": entry("docker")}})
    assert user() == "docker"
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "other"))
    assert user() == ""
    write(home / "other/config.json", {"auths": {"example.com": entry("configured")}})
    assert user() == "configured"
    write(home / "run/containers/auth.json", {"auths": {"example.com": entry("podman")}})
    assert user() == "podman"
    assert user("other.example") == ""
    monkeypatch.setenv("REGISTRY_AUTH_FILE", write(home / "env.json", {"auths": {"example.com": entry("env")}}))
    assert user() == "env"
    named = write(home / "named.json", {"auths": {"example.com": entry("named")}})
    assert user(authfile=named) == "named"


@pytest.mark.parametrize(
    "key", ["example.com", "https://example.com", "https://example.com/v1/", "https://example.com/v2/"]
)
def test_spellings_of_a_host(home: Path, key: str) -> None:
    assert user(authfile=write(home / "a.json", {"auths": {key: entry("me")}})) == "me"


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io"])
def test_docker_hub(home: Path, key: str) -> None:
    assert user("docker.io", "library/alpine", write(home / "a.json", {"auths": {key: entry("me")}})) == "me"


def test_per_repository(home: Path) -> None:
    file = write(
        home / "a.json",
        {"auths": {"example.com": entry("host"), "example.com/a": entry("a"), "example.com/a/b/c": entry("c")}},
    )
    assert user(path="x", authfile=file) == "host"
    assert user(path="a/b", authfile=file) == "a"
    assert user(path="a/b/c", authfile=file) == "c"
    assert user(path="ab", authfile=file) == "host"


def test_kinds_of_entries(home: Path) -> None:
    def found(one: Any) -> Credentials | None:
        return find_credentials("example.com", "a", write(home / "a.json", {"auths": {"example.com": one}}))

    assert found(entry("me", "a:b")) == Credentials("me", "a:b")
    assert found({"identitytoken": "t"}) == Credentials(identity_token="t")
    assert found({"username": "me", "password": "p"}) == Credentials("me", "p")
    assert found({}) is None
    assert found({"auth": ""}) is None
    with pytest.raises(InvalidInput):
        found({"auth": "???"})
    with pytest.raises(InvalidInput):
        found({"auth": 5})
    assert Credentials("me", "pä").basic == "Basic " + base64.b64encode("me:pä".encode()).decode()


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"'])
def test_broken_files_are_named(home: Path, text: str) -> None:
    file = write(home / "broken.json", text)
    with pytest.raises(InvalidInput) as told:
        find_credentials("example.com", "a", file)
    assert file in told.value.what
    with pytest.raises(InvalidInput):
        find_credentials("example.com", "a", str(home / "missing.json"))


def helper(home: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int = 0) -> None:
    program = home / "bin/docker-credential-test"
    write(program, f"#!/bin/sh\ncat > {home}/asked\necho '{answer}'\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}/bin:{os.environ['PATH']}")


def test_helpers(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(home, monkeypatch, '{"ServerURL": "example.com", "Username": "h", "Secret": "s"}')
    own = write(home / "a.json", {"credHelpers": {"example.com": "test"}, "auths": {"example.com": entry("auths")}})
    assert find_credentials("example.com", "a", own) == Credentials("h", "s")
    assert (home / "asked").read_text() == "example.com"
    store = write(home / "b.json", {"credsStore": "test", "auths": {"docker.io": {}}})
    assert user("docker.io", "library/x", store) == "h"
    assert (home / "asked").read_text() == "https://index.docker.io/v1/"
    helper(home, monkeypatch, '{"Username": "<token>", "Secret": "t"}')
    assert find_credentials("example.com", "a", own) == Credentials(identity_token="t")
    helper(home, monkeypatch, "credentials not found in native keychain", 1)
    assert find_credentials("example.com", "a", own) is None


def test_challenges() -> None:
    assert parse_challenges(
        'Bearer realm="https://a/t?x=1,2",service="s, \\"q\\"",scope="repository:a/b:pull,push"'
    ) == [("bearer", {"realm": "https://a/t?x=1,2", "service": 's, "q"', "scope": "repository:a/b:pull,push"})]
    assert parse_challenges('Basic realm="x"') == [("basic", {"realm": "x"})]
    assert parse_challenges('basic realm=x , Bearer  realm = "y" ,service=z') == [
        ("basic", {"realm": "x"}),
        ("bearer", {"realm": "y", "service": "z"}),
    ]
    assert parse_challenges("") == []
    assert parse_challenges("Negotiate") == [("negotiate", {})]


@given(st.text('aZ ,="\\/:é', max_size=60))
def test_any_challenge_is_survived(text: str) -> None:
    parse_challenges(text)
