"""commit, export and import: a container's files become a tar or an image, and run again."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator

import pytest

from .nano import Nano

EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}


@pytest.fixture
def changed(nano: Nano) -> Iterator[str]:
    """A container that has changed its files in all ways, and goes on running."""
    script = (
        "mkdir -p /new/deep; echo one > /new/deep/file; ln /new/deep/file /new/link; rm /etc/group;"
        "echo 2 >> /etc/passwd; rm -r /var/log; mkdir /var/log; echo 3 > /var/log/own; mknod /new/null c 1 3;"
        "mkfifo /new/fifo; chmod 4755 /new/link; chown 5:6 /new; echo v > /data/volume; touch /ready; exec sleep 1000"
    )
    nano("run", "-d", "--name", "changed", "-v", "/data", "-e", "MINE=1", "tiny", "sh", "-c", script)
    while nano("exec", "changed", "test", "-e", "/ready", check=False).code:
        pass
    yield "changed"
    nano("rm", "-f", "-v", "changed")


def test_commit(nano: Nano, changed: str) -> None:
    change = ("-c", 'CMD ["cat", "/new/link"]', "-c", "LABEL a=b", "-c", "EXPOSE 80", "-m", "why", "-a", "me")
    id = nano("commit", *change, changed, "made:1", env=EPOCH).out.strip()
    try:
        assert nano("inspect", "-f", "{{.State.Status}}", changed).out.strip() == "running"
        assert nano("commit", *change, changed, "made:2", env=EPOCH).out.strip() == id  # the same again
        assert nano("run", "--rm", "made:1").out == "one\n"
        look = "ls /etc/group; ls /var/log; ls /data; tail -n 1 /etc/passwd; stat -c '%a %u:%g %t %h' $0 $1 $2"
        seen = nano("run", "--rm", "made:1", "sh", "-c", look, "/new/link", "/new/null", "/new", check=False)
        assert seen.out.splitlines() == ["own", "2", "4755 0:0 0 2", "644 0:0 1 1", "755 5:6 0 3"]
        assert "/etc/group: No such file" in seen.err
        (image,) = json.loads(nano("image", "inspect", "made:1").out)
        assert "MINE=1" in image["Config"]["Env"] and not any("HOSTNAME" in item for item in image["Config"]["Env"])
        assert (image["Config"]["Labels"], image["Config"]["ExposedPorts"]) == ({"a": "b"}, {"80/tcp": {}})
        assert image["Created"].startswith("2023-11-14T22:13:20")
        assert nano("commit", "-c", "NONSENSE 1", changed, "made:3", check=False).code == 1
        assert nano("commit", changed, "Bad:Name:x", check=False).code == 1
        assert nano("images", "-q", "made:3").out == ""
    finally:
        nano("rmi", "made:1", "made:2")


def test_commit_of_nothing(nano: Nano) -> None:
    """No change: no layer, only history."""
    nano("create", "--name", "still", "tiny")
    try:
        nano("commit", "still", "same")
        layers = nano("inspect", "-f", "{{.RootFS.Layers}}", "same", "tiny").out.splitlines()
        assert layers[0] == layers[1]
    finally:
        nano("rm", "still")
        nano("rmi", "same")


def test_export_and_import(nano: Nano, changed: str, tmp_path: object) -> None:
    archive = nano("export", changed).raw
    assert nano("export", changed).raw == archive
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        members = {member.name: member for member in files}
        assert {"new/deep/file", "var/log/own", "bin/sh", "data", "proc"} <= members.keys()
        assert not {"etc/group", "data/volume", "proc/1"} & members.keys()
        assert members["new/link"].islnk() and members["new/null"].ischr() and members["new/fifo"].isfifo()
        assert (members["new"].uid, members["new"].gid) == (5, 6)
        assert members["new/deep/file"].mode == 0o4755
    nano("export", "-o", f"{tmp_path}/out.tar", changed)
    assert stat.S_ISREG(os.stat(f"{tmp_path}/out.tar").st_mode)
    with open(f"{tmp_path}/out.tar", "rb") as file:
        assert file.read() == archive
    words = ("import", "-m", "from a test", "-c", "CMD cat /var/log/own", "-c", "ENV A=b C=d")
    id = nano(*words, "-", "flat:1", input=archive, env=EPOCH).out.strip()
    packed = subprocess.run(["gzip", "-c"], input=archive, capture_output=True, check=True).stdout
    try:
        assert nano(*words, "-", "flat:1", input=packed, env=EPOCH).out.strip() == id
        assert nano("run", "--rm", "flat:1").out == "3\n"
        assert nano("inspect", "-f", "{{.Config.Env}}", "flat:1").out == "[A=b C=d]\n"
        for bad in (b"", b"no archive" * 200, archive[: len(archive) // 2], packed[:1000]):
            assert nano("import", "-", "bad:1", input=bad, check=False).code == 1
        assert "curl" in nano("import", "http://127.0.0.1:1/x.tar", check=False).err
        assert nano("images", "-q", "bad").out == ""
    finally:
        nano("rmi", "flat:1")


def test_nothing_is_written_to_a_terminal(nano: Nano, changed: str) -> None:
    nano("kill", changed)
    for words in (("export", changed), ("save", "tiny")):
        with nano.pty(*words) as terminal:
            terminal.expect("to a terminal")
            assert terminal.wait() == 1


def test_mount(nano: Nano) -> None:
    nano("tag", "tiny", "mounted:1")
    place = nano("image", "mount", "mounted:1").out.strip()
    try:
        assert nano("image", "mount", "tiny").out.strip() == place  # the same image, once
        assert os.path.samefile(os.path.dirname(os.path.dirname(place)), nano.runroot)
        with open(f"{place}/etc/passwd") as file:
            assert "root:x:0:0" in file.read()
        with pytest.raises(OSError, match="Read-only"):
            open(f"{place}/new", "w")
        assert place in nano("image", "mount").out and "mounted:1" in nano("image", "mount").out
        assert json.loads(nano("image", "mount", "--format", "json").out)[0]["Mountpoint"] == place
        nano("rmi", "mounted:1")  # only a name: the image has another one
        refused = nano("rmi", "tiny", check=False)
        assert refused.code == 1 and f"it is mounted at {place}" in refused.err
        assert "tiny" not in nano("image", "prune", "-a", "-f").out
        with open(f"{place}/etc/passwd"):
            busy = nano("image", "unmount", "tiny", check=False)
            assert busy.code == 1 and "--force" in busy.err
    finally:
        nano("image", "unmount", "-a")
    assert not os.path.exists(place)
    assert nano("image", "unmount", "tiny", check=False).code == 1
    os.makedirs(place)  # as one that was killed in the middle leaves it
    assert place in nano("doctor", check=False).out
    nano("doctor", "--repair", check=False)
    assert not os.path.exists(place)
