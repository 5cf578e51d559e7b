"""All that lets one see through a start, on an image that is not ours: Debian's, pulled from a registry."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest

from .nano import Nano

NONE = ("--network", "none")
SHOW = ("sh", "-c", ". /etc/os-release; echo $ID; exit 5")


@pytest.fixture
def debian(pulled: Callable[[str], str], debian_image: str, clean: Nano) -> str:
    return pulled(debian_image)


def test_explained(clean: Nano, debian: str) -> None:
    form = json.loads(clean("run", "--explain=json", "-u", "www-data", debian, "bash").out)
    called = [call for step in form["steps"] if step["name"] == "MountLayers" for call in map(str, step["calls"])]
    assert any(f"{clean.root}/images/layers/" in call for call in called), "the image's own layers are named"
    assert "www-data" in clean("run", "--explain=short", "-u", "www-data", debian, "bash").out


def test_told_while_it_happens(clean: Nano, debian: str) -> None:
    done = clean("run", "--rm", "--explain=live", *NONE, debian, *SHOW, check=False)
    assert (done.code, done.out) == (5, "debian\n")
    assert "PivotRoot" in done.err and "Exec" in done.err


def test_stepped(clean: Nano, debian: str) -> None:
    with clean.pty("run", "--rm", "--break-at", "Exec", *NONE, debian, *SHOW, cols=100, rows=50) as terminal:
        terminal.expect(r"\(\d+ Exec\) ")
        terminal.send("show\n")
        terminal.expect(r"seccomp +(filter|2)|seccomp")
        terminal.send("continue\n")
        terminal.expect(r"\r\ndebian\r\n")
        assert terminal.wait() == 5


def test_without_a_wall(clean: Nano, debian: str) -> None:
    try_it = ("unshare", "--uts", "true")
    seccomp = ("--security-opt", "seccomp=unconfined")
    assert clean("run", "--rm", *NONE, debian, *try_it, check=False).code == 1
    assert clean("run", "--rm", *NONE, "--cap-add", "SYS_ADMIN", debian, *try_it, check=False).code == 0
    assert clean("run", "--rm", *NONE, *seccomp, debian, *try_it, check=False).code == 1  # the second wall
    left_out = clean("run", "--rm", *NONE, "--without", "SetHostname", debian, "hostname", check=False)
    assert left_out.out.strip() == os.uname().nodename and "SetHostname" in left_out.err


def test_traced(clean: Nano, debian: str) -> None:
    found = json.loads(clean("trace", "-n", "2", "--format", "json", *NONE, debian, "true").out)
    assert {"MountOverlay", "PivotRoot", "Exec"} <= {row["label"] for row in found["rows"]}
    parts = [row["times"] for row in found["rows"]]
    assert [sum(times) for times in zip(*parts, strict=True)] == found["total"]["times"], "the parts are the whole"


def test_explained_and_compared_while_it_runs(clean: Nano, debian: str) -> None:
    clean("run", "-d", "--name", "deb", *NONE, debian, "sleep", "1000")
    other = ("-d", "--name", "open", "--network", "host", "--privileged")
    clean("run", *other, debian, "sleep", "1000")
    verdict = clean("compare", "deb", "open").out
    assert "open is weaker" in verdict or "open weaker" in verdict
    assert "seccomp" in verdict
    assert "cgroup.kill" in clean("rm", "--explain", "-f", "deb").out
    assert "CLONE_NEW" in clean("exec", "--explain", "deb", "bash").out
    clean("rm", "-f", "deb", "open")
