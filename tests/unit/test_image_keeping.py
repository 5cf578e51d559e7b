"""login and logout: what they write into docker's and podman's files."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from nanocontainer.cmd.login import server
from nanocontainer.errors import InvalidInput, NanoError
from nanocontainer.image.auth import Credentials, find_credentials
from nanocontainer.image.keeping import forget, keep

ME = Credentials("me", "s:cret")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def helper(home: Path, monkeypatch: pytest.MonkeyPatch, code: int = 0) -> Path:
    """A credential helper that writes down what it is asked."""
    program = home / "bin/docker-credential-test"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$1 $(cat)" >> {home}/asked\necho told\nexit {code}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}/bin:{os.environ['PATH']}")
    return home / "asked"


def test_docker_reads_what_is_kept(home: Path) -> None:
    file = home / ".docker/config.json"
    assert keep("example.com:5000", ME) == (str(file), "")
    assert read(file) == {"auths": {"example.com:5000": {"auth": base64.b64encode(b"me:s:cret").decode()}}}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(file.parent) == ["config.json"]
    assert find_credentials("example.com:5000", "a") == ME
    keep("docker.io", ME)
    assert "https://index.docker.io/v1/" in read(file)["auths"]
    assert find_credentials("docker.io", "library/x") == ME
    assert forget("docker.io") == [str(file)]
    assert forget("docker.io") == []
    assert find_credentials("docker.io", "library/x") is None
    assert find_credentials("example.com:5000", "a") == ME


def test_all_else_in_the_file_stays(home: Path) -> None:
    file = home / ".docker/config.json"
    file.parent.mkdir()
    real = home / "real.json"
    real.write_text(json.dumps({"psFormat": "x", "auths": {"https://example.com/v1/": {"auth": "b2xkOm9sZA=="}}}))
    real.chmod(0o644)
    file.symlink_to(real)
    keep("example.com", ME)
    assert file.is_symlink()
    assert read(real)["psFormat"] == "x"
    assert list(read(real)["auths"]) == ["example.com"]  # the old spelling would be read in its place
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


def test_who_is_read_first_is_written(home: Path) -> None:
    """podman's file says something of this registry, and is read before docker's."""
    podman = home / "run/containers/auth.json"
    podman.parent.mkdir(parents=True)
    podman.write_text(json.dumps({"auths": {"example.com": {"auth": "b2xkOm9sZA=="}}}))
    assert keep("example.com", ME)[0] == str(podman)
    assert find_credentials("example.com", "a") == ME
    assert keep("other.com", ME)[0].endswith(".docker/config.json")
    assert keep("x.com", ME, str(home / "own/auth.json"))[0] == str(home / "own/auth.json")
    assert find_credentials("x.com", "a", str(home / "own/auth.json")) == ME


def test_identity_tokens(home: Path) -> None:
    keep("example.com", Credentials("me", identity_token="long"))
    assert find_credentials("example.com", "a") == Credentials(identity_token="long")


def test_helpers(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = helper(home, monkeypatch)
    file = home / ".docker/config.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"credsStore": "test"}))
    assert keep("example.com", ME) == (str(file), "test")
    word, _, message = asked.read_text().partition(" ")
    assert word == "store"
    assert json.loads(message) == {"ServerURL": "example.com", "Username": "me", "Secret": "s:cret"}
    assert read(file)["auths"] == {"example.com": {}}
    assert "s:cret" not in file.read_text()
    keep("example.com", Credentials("me", identity_token="long"))
    assert '"<token>"' in asked.read_text()
    assert forget("example.com") == [str(file)]
    assert asked.read_text().splitlines()[-1] == "erase example.com"


def test_a_helper_that_fails_changes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(home, monkeypatch, code=1)
    file = home / ".docker/config.json"
    file.parent.mkdir()
    file.write_text('{"credHelpers": {"example.com": "test", "other.com": "missing"}}')
    for host, told in (("example.com", "told"), ("other.com", "missing")):
        with pytest.raises(NanoError) as error:
            keep(host, ME)
        assert told in str(error.value)
    assert file.read_text() == '{"credHelpers": {"example.com": "test", "other.com": "missing"}}'


def test_broken_files_stay(home: Path) -> None:
    file = home / ".docker/config.json"
    file.parent.mkdir()
    for text in ("{", "[]", '{"auths": 5}'):
        file.write_text(text)
        with pytest.raises(InvalidInput):
            keep("example.com", ME)
        assert file.read_text() == text


def test_two_logins_at_once(home: Path) -> None:
    import threading

    hosts = [f"h{number}.example" for number in range(8)]
    threads = [threading.Thread(target=keep, args=(host, ME)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(read(home / ".docker/config.json")["auths"]) == hosts


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ([], "docker.io"), (["docker.io"], "docker.io"), (["https://index.docker.io/v1/"], "docker.io"),
        (["localhost:5000"], "localhost:5000"), (["https://quay.io"], "quay.io"), (["http://a.b:1/v2/"], "a.b:1"),
    ],
)  # fmt: skip
def test_servers(given: list[str], host: str) -> None:
    assert server(given) == host


@pytest.mark.parametrize("given", ["", "alpine", "a b.c", "https://", "a.b:99999999", "-a.b"])
def test_no_servers(given: str) -> None:
    with pytest.raises(InvalidInput):
        server([given])
