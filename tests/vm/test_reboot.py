"""A real restart, and a real power cut: a guest ends hard, and another one boots with its disk.

What the first guest had only in its memory is lost. So this shows what reaches the disk in which order: an image is
there whole or not at all, whenever the power goes.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from . import machine

FILES, SIZE = 400, 6000  # of the image


@pytest.fixture
def kernel() -> machine.Kernel:
    try:
        return machine.debian()
    except machine.Unavailable as error:
        pytest.skip(f"no guest: {error}")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A file system; what lies in the directory `seed` beside it is in it."""
    if not shutil.which("mkfs.ext4"):
        pytest.skip("no guest: mkfs.ext4 is not there")
    seed = tmp_path / "seed"
    seed.mkdir()
    (seed / "image.tar").write_bytes(docker_archive(contents()))
    path = machine.empty_disk(tmp_path / "disk")
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", seed, path], check=True)
    return path


def contents() -> dict[str, bytes]:
    """The files of the image."""
    return {f"data/{number:04}": hashlib.sha256(b"%d" % number).digest() * (SIZE // 32) for number in range(FILES)}


def docker_archive(files: dict[str, bytes]) -> bytes:
    """One image, big:latest, of one layer, as docker save would write it."""
    layer = archive_of(files)
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config = {"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    manifest = [{"Config": "config.json", "RepoTags": ["big:latest"], "Layers": ["layer.tar"]}]
    named = {"layer.tar": layer, "config.json": json.dumps(config).encode()}
    return archive_of({**named, "manifest.json": json.dumps(manifest).encode()})


def archive_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def digest(files: dict[str, bytes]) -> str:
    return hashlib.sha256(b"".join(files[name] for name in sorted(files))).hexdigest()


def boot(kernel: machine.Kernel, disk: Path, script: str) -> machine.Ran:
    begin = "PROJECT=/run/project\n" + Path(__file__).with_name("reboot.sh").read_text()
    try:
        return machine.boot(kernel, begin + script, 120, disk=disk)
    except machine.Unavailable as error:
        pytest.skip(f"no guest: {error}")


def must(kernel: machine.Kernel, disk: Path, script: str) -> str:
    ran = boot(kernel, disk, f"set -e\n{script}")
    assert ran.code == 0, f"{ran.output}\nits kernel said:\n{ran.console}"
    return ran.output


@pytest.mark.timeout(400)
def test_a_restart(kernel: machine.Kernel, disk: Path) -> None:
    must(kernel, disk, """
        nano run -d --name web -p 18077:80 -v data:/data tiny sh -c \
            'test -e /mine && exec sleep 2000; echo written > /mine; echo kept > /data/file; exec sleep 1000'
        nano run -d --rm --name passing tiny sleep 1000
        nano create --name new tiny true
        nano run --name done tiny sh -c 'exit 3' || true
        sync
    """)  # fmt: skip
    said = must(kernel, disk, """
        nano doctor --json | grep -o '"it ran: [a-z ]*"' | sort | uniq -c
        nano ps -a --format '{{.Names}} {{.State}} {{.Status}}' | sort
        nano inspect -f '{{.State.ExitCode}} {{.State.Error}}' web
        ls /tmp/disk/state/ports /tmp/disk/state/networks/bridge/leases | grep -c any || true
        nano start web
        nano exec web cat /mine /data/file
        nano ps --format '{{.Ports}}'
        nano rm -f web new done
        nano doctor | tail -1
    """)  # fmt: skip
    lines = [line.strip() for line in said.splitlines()]
    assert lines[0] == '2 "it ran: the host was restarted"'
    assert [line.split()[:2] for line in lines[1:4]] == [["done", "exited"], ["new", "created"], ["web", "exited"]]
    assert lines[3].split()[2:4] == ["Exited", "(255)"]
    assert lines[4:6] == ["255 the host was restarted", "0"]
    assert "written" in lines and "kept" in lines and any("18077->80/tcp" in line for line in lines)
    assert lines[-1] == "All is well."


@pytest.mark.timeout(900)
@pytest.mark.parametrize("moment", ["sleep 0.7", "sleep 1.5", "wait"])
def test_the_power_goes_while_an_image_is_loaded(kernel: machine.Kernel, disk: Path, moment: str) -> None:
    """Or right after that was told. The image is there whole or not at all, and the next load makes it whole."""
    boot(kernel, disk, f"nano load -q -i /tmp/disk/image.tar &\n{moment}\n")
    said = must(kernel, disk, """
        sums() { (cd "$1" && find . -type f | sort | xargs cat | sha256sum | cut -c1-64); }
        layer() { find /tmp/disk/state/images/layers -mindepth 1 -maxdepth 1 -type d | grep -v '[.]'; }
        if nano inspect big >/dev/null 2>&1; then sums "$(layer)"; else echo missing; fi
        nano doctor --repair >/tmp/said || { cat /tmp/said; exit 1; }
        nano load -q -i /tmp/disk/image.tar >/dev/null
        sums "$(layer)"
    """).split()  # fmt: skip
    whole = digest(contents())
    assert said[0] in ("missing", whole) and (moment != "wait" or said[0] == whole)
    assert said[1:] == [whole]
